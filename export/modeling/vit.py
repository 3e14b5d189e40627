"""A vision transformer over square tiles of one size (SigLIP, Zhai et al. 2023)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from export.modeling.ops import Activation, Ops, TileGrid
from export.modeling.tensors import Tensors, linear, norm

T = TypeVar("T")


@dataclass(frozen=True)
class Vit:
    """Hyperparameters of a vision transformer (ViT) over tiles of image_size x image_size pixels.

    A learned vector is added at each patch's position. image_size and patch_size are in pixels;
    pixels that fill no whole patch are left out. class_token: a learned vector precedes a tile's
    patches (Dosovitskiy et al. 2021); `forward` drops it at the end. post_norm: the result gets a
    layer norm.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    image_size: int
    patch_size: int
    norm_eps: float
    activation: Activation
    channels: int = 3
    class_token: bool = False
    post_norm: bool = True
    kind: Literal["vit"] = "vit"

    @property
    def side(self) -> int:
        """How many patches lie along one edge of a tile."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """How many patches one tile has."""
        return self.side**2

    @property
    def grid(self) -> TileGrid:
        """Describes the patches that `forward` returns for one tile."""
        return TileGrid(self.side, self.hidden)

    def tensors(self) -> Tensors:
        """Yields name and shape of every weight tensor, in the order of use."""
        yield (
            "v.patch_embd.weight",
            (self.hidden, self.channels, self.patch_size, self.patch_size),
        )
        yield "v.patch_embd.bias", (self.hidden,)
        if self.class_token:
            yield "v.class_embd.weight", (self.hidden,)
        yield "v.position_embd.weight", (self.class_token + self.patches, self.hidden)
        for i in range(self.layers):
            yield from self._block(f"v.blk.{i}")
        if self.post_norm:
            yield from norm("v.post_ln", self.hidden, bias=True)

    def _block(self, block: str) -> Tensors:
        for name in ("ln1", "ln2"):
            yield from norm(f"{block}.{name}", self.hidden, bias=True)
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            yield from linear(f"{block}.{name}", self.hidden, self.hidden)
        yield from linear(f"{block}.ffn_up", self.intermediate, self.hidden)
        yield from linear(f"{block}.ffn_down", self.hidden, self.intermediate)

    def forward(self, ops: Ops[T], pixels: T) -> T:
        """Encodes T tiles [T, C, h, w] into N patches each: [T, N, hidden]."""
        eps = self.norm_eps
        x = ops.patches(pixels, self.channels, self.image_size, self.patch_size)
        x = ops.linear(x, "v.patch_embd", bias=True)
        if self.class_token:
            x = ops.prepend(x, "v.class_embd")
        x = ops.add_parameter(x, "v.position_embd")
        normed = ops.norm(x, "v.blk.0.ln1", "layer", eps)
        for i in range(self.layers):
            block = f"v.blk.{i}"
            q, k, v = (ops.linear(normed, f"{block}.attn_{part}", bias=True) for part in "qkv")
            attended = ops.tile_attention(q, k, v, self.heads)
            attended = ops.linear(attended, f"{block}.attn_out", bias=True)
            normed, x = ops.add_norm(attended, x, f"{block}.ln2", "layer", eps)
            inner = ops.linear(normed, f"{block}.ffn_up", bias=True)
            inner = ops.activation(inner, self.activation)
            inner = ops.linear(inner, f"{block}.ffn_down", bias=True)
            last = i + 1 == self.layers
            if last and not self.post_norm:
                normed = ops.add(inner, x)
            else:
                following = "v.post_ln" if last else f"v.blk.{i + 1}.ln1"
                normed, x = ops.add_norm(inner, x, following, "layer", eps)
        return ops.drop_first(normed) if self.class_token else normed

    def problems(self) -> Iterator[str]:
        """Yields a message for each invalid hyperparameter, with its name in config.json."""
        if self.hidden % self.heads:
            yield (
                f"the vision tower's hidden_size {self.hidden} is not a multiple of its "
                f"num_attention_heads {self.heads}"
            )
        # Not a multiple: SmolVLM-Instruct has 384 and 14, and leaves the last 6 pixels out.
        if self.image_size < self.patch_size:
            yield f"image_size {self.image_size} is smaller than patch_size {self.patch_size}"
        if not 0 < self.norm_eps < 1:
            yield f"layer_norm_eps {self.norm_eps} is not between 0 and 1"
