"""Qwen2.5-VL's vision encoder: images of any size, rotary positions, windows (2025 report)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from export.modeling.ops import Activation, Ops, PatchOrder
from export.modeling.tensors import Tensors, linear, norm

T = TypeVar("T")


@dataclass(frozen=True)
class QwenVit:
    """Hyperparameters of a vision encoder that takes one image of any size, cut into patches.

    Queries and keys rotate by a patch's row and column. Patches come in squares of
    spatial_merge_size x spatial_merge_size. Layers attend within windows of `window` x `window`
    patches; `full_attention_layers`, and all layers if window is None, over the whole image. A
    patch has `temporal_patch_size` frames (a still image is repeated). `image_size` is the edge, in
    pixels, of the square example image for which memory and time are predicted.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    image_size: int
    patch_size: int
    norm_eps: float
    activation: Activation
    spatial_merge_size: int
    temporal_patch_size: int
    window: int | None = None
    full_attention_layers: tuple[int, ...] = ()
    channels: int = 3
    kind: Literal["qwen_vit"] = "qwen_vit"

    @property
    def side(self) -> int:
        """How many patches lie along one edge of the example image of `image_size` pixels."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """How many patches the square example image of `image_size` pixels has."""
        return self.side**2

    @property
    def patch_values(self) -> int:
        """How many pixel values one patch has, over channels, frames, rows and columns."""
        return self.channels * self.temporal_patch_size * self.patch_size**2

    @property
    def order(self) -> PatchOrder:
        """Describes the order of an image's patches and their attention."""
        return PatchOrder(self.spatial_merge_size, self.window, self.hidden, self.heads)

    def patch_grid(self, tokens: tuple[int, int]) -> tuple[int, int]:
        """Converts an image's (rows, columns) of decoder tokens to (rows, columns) of patches."""
        rows, columns = tokens
        return rows * self.spatial_merge_size, columns * self.spatial_merge_size

    def tensors(self) -> Tensors:
        """Yields name and shape of every weight tensor, in the order of use."""
        patch = (self.patch_size, self.patch_size)
        frames = (self.temporal_patch_size,) if self.temporal_patch_size > 1 else ()
        yield "v.patch_embd.weight", (self.hidden, self.channels, *frames, *patch)
        for i in range(self.layers):
            yield from self._block(f"v.blk.{i}")
        yield from norm("v.post_ln", self.hidden, bias=False)

    def _block(self, block: str) -> Tensors:
        for name in ("ln1", "ln2"):
            yield from norm(f"{block}.{name}", self.hidden, bias=False)
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            yield from linear(f"{block}.{name}", self.hidden, self.hidden)
        for name in ("ffn_gate", "ffn_up"):
            yield from linear(f"{block}.{name}", self.intermediate, self.hidden)
        yield from linear(f"{block}.ffn_down", self.hidden, self.intermediate)

    def forward(self, ops: Ops[T], pixels: T) -> T:
        """Encodes the N patches of one image: [N, patch_values] -> [1, N, hidden]."""
        eps, order = self.norm_eps, self.order
        x = ops.linear(ops.unsqueeze(pixels), "v.patch_embd")
        normed = ops.norm(x, "v.blk.0.ln1", "rms", eps)
        for i in range(self.layers):
            block = f"v.blk.{i}"
            q, k, v = (ops.linear(normed, f"{block}.attn_{part}", bias=True) for part in "qkv")
            windowed = self.window is not None and i not in self.full_attention_layers
            attended = ops.image_attention(q, k, v, order, windowed)
            attended = ops.linear(attended, f"{block}.attn_out", bias=True)
            normed, x = ops.add_norm(attended, x, f"{block}.ln2", "rms", eps)
            both = ops.linear(normed, f"{block}.ffn_gate", f"{block}.ffn_up", bias=True)
            inner = ops.gated(both, self.activation)
            inner = ops.linear(inner, f"{block}.ffn_down", bias=True)
            following = f"v.blk.{i + 1}.ln1" if i + 1 < self.layers else "v.post_ln"
            normed, x = ops.add_norm(inner, x, following, "rms", eps)
        return normed

    def problems(self) -> Iterator[str]:
        """Yields a message for each invalid hyperparameter, with its name in config.json."""
        if self.hidden % self.heads:
            yield (
                f"the vision tower's hidden_size {self.hidden} is not a multiple of its "
                f"num_heads {self.heads}"
            )
        elif self.hidden // self.heads % 4:
            yield (
                f"the vision tower's head size {self.hidden // self.heads} is not a multiple of 4, "
                f"but is rotated by rows and columns"
            )
        if self.window is not None and (self.window < 1 or self.window % self.spatial_merge_size):
            yield (
                f"windows of {self.window} patches are not whole squares of spatial_merge_size "
                f"{self.spatial_merge_size}"
            )
        if not all(0 <= i < self.layers for i in self.full_attention_layers):
            yield (
                f"fullatt_block_indexes {list(self.full_attention_layers)} names layers that the "
                f"vision tower does not have"
            )
