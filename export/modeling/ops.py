"""The operations that networks are written in. NOT aware of torch, ONNX or values of weights.

A network is the `forward` of a part (export/modeling/), a plain function over `Ops[T]`. The
interpreter decides what a `T` is: a torch tensor (export/torch/run.py), an output of an ONNX node
(export/onnx/emit.py) or a shape (export/count.py). Operations are as coarse as the fused kernels of
the runtimes, so that an interpreter can choose its fastest kernel. Weights are passed by name: the
interpreter reads them. Letters in shapes: B batch, S new positions, T tiles, N patches, H hidden.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from export.modeling.rotary import Rope

T = TypeVar("T")
Activation = Literal["silu", "gelu", "gelu_tanh"]
NormKind = Literal["layer", "rms"]


@dataclass(frozen=True)
class TileGrid:
    """The patches of a square tile, row by row: side x side vectors of `width` values."""

    side: int
    width: int


@dataclass(frozen=True)
class PatchOrder:
    """How the patches of one image of any size follow each other, and how they attend.

    The patches of a square of merge_size x merge_size are neighbours; squares come row by row.
    `window` is the edge, in patches, of the windows of windowed layers (None: there are none).
    """

    merge_size: int
    window: int | None
    width: int
    heads: int


@dataclass(frozen=True)
class Heads:
    """Grouped-query attention of one decoder layer.

    `scale` multiplies the scores; None is head_dim^-0.5. `rope` rotates queries and keys.
    `sections`: so many pairs of a head rotate by a position's time, by its row and by its column
    (Qwen2-VL report, 2024). `window`: a position sees the last `window` positions, itself included;
    None: all. `bidirectional`: positions of one image see each other, also later ones.
    """

    heads: int
    kv_heads: int
    head_dim: int
    rope: Rope
    scale: float | None = None
    sections: tuple[int, int, int] | None = None
    window: int | None = None
    bidirectional: bool = False
    norm_eps: float = 0.0
    """Of the norms of heads, where there are some."""


class Ops(Protocol[T]):
    """One interpretation of the operations. A `name` is a canonical tensor name without suffix."""

    def linear(self, x: T, *names: str, bias: bool = False) -> T:
        """x [..., in] -> [..., rows of `{name}.weight`]; results of several names side by side."""

    def norm(self, x: T, name: str, kind: NormKind, eps: float) -> T:
        """Layer normalization (weight, bias) or RMS normalization (weight) of the last axis."""

    def add_norm(self, x: T, residual: T, name: str, kind: NormKind, eps: float) -> tuple[T, T]:
        """(norm(s), s) for s = x + residual."""

    def add(self, x: T, y: T) -> T:
        """x + y of one shape."""

    def fourier(self, x: T) -> T:
        """[..., n] -> cos(2 pi x) | sin(2 pi x): [..., 2 n]."""

    def activation(self, x: T, kind: Activation) -> T:
        """silu (x * sigmoid(x)), gelu (x * Phi(x)) or gelu_tanh (its tanh approximation)."""

    def gated(self, x: T, kind: Activation) -> T:
        """x [..., 2 n] = gate | up -> activation(gate) * up: [..., n]."""

    def patches(self, pixels: T, channels: int, image_size: int, patch_size: int) -> T:
        """Tiles [T, C, h, w] -> their patches, row by row: [T, N, C * patch_size^2].

        Pixels beyond the last whole patch are left out.
        """

    def unsqueeze(self, x: T) -> T:
        """[N, n] -> [1, N, n]."""

    def add_parameter(self, x: T, name: str) -> T:
        """x + `{name}.weight`, broadcast over the leading axes."""

    def prepend(self, x: T, name: str) -> T:
        """`{name}.weight` [H] in front of each tile's patches: [T, N, H] -> [T, 1 + N, H]."""

    def drop_first(self, x: T) -> T:
        """The inverse: [T, 1 + N, H] -> [T, N, H]."""

    def pixel_shuffle(self, x: T, grid: TileGrid, scale: int) -> T:
        """scale x scale neighbours side by side: [T, N, H] -> [T, N / scale^2, H * scale^2]."""

    def average_pool(self, x: T, grid: TileGrid, scale: int) -> T:
        """The mean of scale x scale neighbours: [T, N, H] -> [T, N / scale^2, H]."""

    def merge_patches(self, x: T, order: PatchOrder) -> T:
        """The patches of a square side by side: [1, N, H] -> [1, N / m^2, H * m^2]."""

    def tile_attention(self, q: T, k: T, v: T, heads: int) -> T:
        """Every patch of a tile attends to all of them. q, k, v and the result are [T, N, H]."""

    def image_attention(self, q: T, k: T, v: T, order: PatchOrder, windowed: bool) -> T:
        """Attention over the patches of one image of any size: q, k, v, result [1, N, H].

        Queries and keys rotate by the patch's row (first half of the pairs) and column. With
        `windowed` a patch sees its window alone. The interpreter knows the image's rows and
        columns.
        """

    def cached_attention(
        self, qkv: T, layer: int, heads: Heads, norms: tuple[str, str] | None = None
    ) -> T:
        """Grouped-query attention over cached and new positions, with rotary positions.

        qkv [B, S, (heads + 2 kv_heads) * head_dim] -> [B, S, heads * head_dim]. New keys and values
        join the state of `layer`. Of the first d dimensions of a head, rotation pairs i with
        i + d / 2 (RoFormer, Su et al. 2021, in the half-split layout of GPT-NeoX). `norms` names
        the RMS norms of each head's query and key, applied before the rotation. A position sees
        itself and those before it, as far as `heads` says otherwise. The interpreter knows which
        positions belong to which image.
        """

    def embed(self, ids: T, name: str, scale: float = 1.0) -> T:
        """ids [B, S] -> rows of `{name}.weight`, times `scale`: [B, S, H]."""

    def last_tokens(self, x: T) -> T:
        """The positions of x [B, S, H] whose logits are asked for: [B, kept, H]."""
