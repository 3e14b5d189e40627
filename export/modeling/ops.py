"""The operations of which networks consist. NOT aware of torch, ONNX or values of weights.

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
    """Describes the patches of a square tile: side x side vectors of `width` values, row by row."""

    side: int
    width: int


@dataclass(frozen=True)
class PatchOrder:
    """Describes the order of the patches of an image of any size, and their attention.

    The patches of a square of merge_size x merge_size follow each other; squares come row by row.
    window: the edge, in patches, of the square windows of windowed layers; None: no layer has
    windows. width: values of a patch. heads: attention heads.
    """

    merge_size: int
    window: int | None
    width: int
    heads: int


@dataclass(frozen=True)
class Heads:
    """Settings of the grouped-query attention of one decoder layer.

    `scale` multiplies the scores; None: head_dim^-0.5. `rope` rotates queries and keys. `sections`:
    how many pairs of a head rotate by a position's time, its row and its column (Qwen2-VL report,
    2024). `window`: a position attends to the last `window` positions, itself included; None: all.
    `bidirectional`: positions of one image attend to each other, also to later ones. `norm_eps`: of
    the RMS norms of each head's query and key, if the layer has them.
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


class Ops(Protocol[T]):
    """Carries out the operations of a network on values of a type T.

    A `name` is the name of a weight tensor without ".weight" or ".bias".
    """

    def linear(self, x: T, *names: str, bias: bool = False) -> T:
        """Multiplies x [..., in] by `{name}.weight` [out, in] and adds `{name}.bias` if `bias`.

        Returns [..., out]; the results of several names are concatenated along the last axis.
        """

    def norm(self, x: T, name: str, kind: NormKind, eps: float) -> T:
        """Normalizes the last axis: layer norm (`{name}.weight`, `{name}.bias`) or RMS (weight)."""

    def add_norm(self, x: T, residual: T, name: str, kind: NormKind, eps: float) -> tuple[T, T]:
        """Returns (norm(s), s) for s = x + residual."""

    def add(self, x: T, y: T) -> T:
        """Returns x + y; both have the same shape."""

    def fourier(self, x: T) -> T:
        """Returns cos(2 pi x) and sin(2 pi x), concatenated: [..., n] -> [..., 2 n]."""

    def activation(self, x: T, kind: Activation) -> T:
        """Applies silu (x * sigmoid(x)), gelu (x * Phi(x)) or gelu_tanh (its approximation)."""

    def gated(self, x: T, kind: Activation) -> T:
        """Splits x [..., 2 n] into gate and up; returns activation(gate) * up: [..., n]."""

    def patches(self, pixels: T, channels: int, image_size: int, patch_size: int) -> T:
        """Cuts T tiles [T, C, h, w] into N square patches each: [T, N, C * patch_size^2].

        Patches come row by row; pixels beyond the last whole patch are left out.
        """

    def unsqueeze(self, x: T) -> T:
        """Adds a leading axis of length 1: [N, n] -> [1, N, n]."""

    def add_parameter(self, x: T, name: str) -> T:
        """Returns x + `{name}.weight`, which is broadcast over the leading axes of x."""

    def prepend(self, x: T, name: str) -> T:
        """Puts the vector `{name}.weight` before each tile's: [T, N, H] -> [T, 1 + N, H]."""

    def drop_first(self, x: T) -> T:
        """Removes each tile's first vector, which `prepend` added: [T, 1 + N, H] -> [T, N, H]."""

    def pixel_shuffle(self, x: T, grid: TileGrid, scale: int) -> T:
        """Concatenates scale x scale neighbours: [T, N, H] -> [T, N / scale^2, H * scale^2]."""

    def average_pool(self, x: T, grid: TileGrid, scale: int) -> T:
        """Averages scale x scale neighbouring patches: [T, N, H] -> [T, N / scale^2, H]."""

    def merge_patches(self, x: T, order: PatchOrder) -> T:
        """Concatenates the patches of each square of m x m, m = order.merge_size.

        [1, N, H] -> [1, N / m^2, H * m^2].
        """

    def tile_attention(self, q: T, k: T, v: T, heads: int) -> T:
        """Attention of every patch over all N patches of its tile; q, k, v, result [T, N, H]."""

    def image_attention(self, q: T, k: T, v: T, order: PatchOrder, windowed: bool) -> T:
        """Attention over the N patches of one image of any size; q, k, v, result [1, N, H].

        Queries and keys are rotated by the patch's row (first half of the pairs) and column. With
        `windowed`, a patch attends only to its window of order.window x order.window patches. The
        implementation knows how many rows and columns the image has.
        """

    def cached_attention(
        self, qkv: T, layer: int, heads: Heads, norms: tuple[str, str] | None = None
    ) -> T:
        """Attention of S new positions over cached and new ones, with rotary positions.

        qkv [B, S, (heads + 2 kv_heads) * head_dim] -> [B, S, heads * head_dim]. The new keys and
        values are added to the cache of `layer`. Of the d rotated dimensions of a head, i is paired
        with i + d / 2 (RoFormer, Su et al. 2021, in the half-split layout of GPT-NeoX). `norms`
        names the RMS norms of each head's query and key, applied before the rotation. A position
        attends to itself and all before it, unless `heads` says otherwise. The implementation knows
        which positions belong to which image.
        """

    def embed(self, ids: T, name: str, scale: float = 1.0) -> T:
        """Looks up the rows `ids` [B, S] of `{name}.weight`, times `scale`: [B, S, H]."""

    def last_tokens(self, x: T) -> T:
        """Selects the last n positions of x [B, S, H], whose logits are needed: [B, n, H].

        The implementation knows n.
        """
