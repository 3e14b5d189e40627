"""Counts floating-point operations and cache bytes of a network, from tensor shapes alone.

NOT aware of weights, formats or time. A multiply-add counts as two operations; norms, activations
and additions are not counted (under 1 % of the total).
"""

from dataclasses import dataclass
from math import prod
from typing import assert_never

from export.modeling.ops import Activation, Heads, NormKind, PatchOrder, TileGrid
from export.modeling.tensors import Shape
from export.modeling.vision import ImageVision, TileVision
from export.modeling.vlm import Vlm, shapes

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Counts:
    """The cost of one forward pass: its floating-point operations (`flops`).

    `activations` is the number of values of the largest intermediate tensor.
    """

    flops: int
    activations: int


class Count:
    """Runs a network on tensor shapes and sums up its cost in `flops` and `widest`.

    `widest` is the number of values of the largest tensor. A decoder has `past` cached positions
    and computes logits for the last `keep` new ones.
    """

    def __init__(self, vlm: Vlm, past: int = 0, keep: int = 1) -> None:
        self._shapes = shapes(vlm)
        self._past = past
        self._keep = keep
        self.flops = 0
        self.widest = 0

    def linear(self, x: Shape, *names: str, bias: bool = False) -> Shape:
        rows = sum(self._shapes[f"{name}.weight"][0] for name in names)
        self.flops += 2 * prod(x) * rows
        return self._made((*x[:-1], rows))

    def norm(self, x: Shape, name: str, kind: NormKind, eps: float) -> Shape:
        return x

    def add_norm(
        self, x: Shape, residual: Shape, name: str, kind: NormKind, eps: float
    ) -> tuple[Shape, Shape]:
        return x, x

    def add(self, x: Shape, y: Shape) -> Shape:
        return x

    def fourier(self, x: Shape) -> Shape:
        return (*x[:-1], 2 * x[-1])

    def activation(self, x: Shape, kind: Activation) -> Shape:
        return x

    def gated(self, x: Shape, kind: Activation) -> Shape:
        return (*x[:-1], x[-1] // 2)

    def patches(self, pixels: Shape, channels: int, image_size: int, patch_size: int) -> Shape:
        patches = (image_size // patch_size) ** 2
        return self._made((pixels[0], patches, prod(pixels[1:]) // patches))

    def unsqueeze(self, x: Shape) -> Shape:
        return self._made((1, *x))

    def add_parameter(self, x: Shape, name: str) -> Shape:
        return x

    def prepend(self, x: Shape, name: str) -> Shape:
        return self._made((x[0], x[1] + 1, x[2]))

    def drop_first(self, x: Shape) -> Shape:
        return (x[0], x[1] - 1, x[2])

    def pixel_shuffle(self, x: Shape, grid: TileGrid, scale: int) -> Shape:
        return (x[0], x[1] // scale**2, x[2] * scale**2)

    def average_pool(self, x: Shape, grid: TileGrid, scale: int) -> Shape:
        return (x[0], x[1] // scale**2, x[2])

    def merge_patches(self, x: Shape, order: PatchOrder) -> Shape:
        return (x[0], x[1] // order.merge_size**2, x[2] * order.merge_size**2)

    def tile_attention(self, q: Shape, k: Shape, v: Shape, heads: int) -> Shape:
        return self._attended(q, q[1], heads)

    def image_attention(
        self, q: Shape, k: Shape, v: Shape, order: PatchOrder, windowed: bool
    ) -> Shape:
        seen = q[1]
        if windowed and order.window is not None:
            seen = min(seen, order.window**2)  # whole windows
        return self._attended(q, seen, order.heads)

    def _attended(self, q: Shape, seen: int, heads: int) -> Shape:
        """Counts attention of each patch of `q` over `seen` patches; returns the shape of `q`."""
        tiles, patches, hidden = q
        self.flops += 4 * tiles * patches * seen * hidden
        self._made((tiles, heads, patches, seen))
        return q

    def cached_attention(
        self, qkv: Shape, layer: int, heads: Heads, norms: tuple[str, str] | None = None
    ) -> Shape:
        batch, new, _ = qkv
        width = heads.heads * heads.head_dim
        window = heads.window or self._past + new
        # A position sees itself and those before it; later ones of its image are left out.
        seen = sum(min(self._past + i + 1, window) for i in range(new))
        self.flops += 4 * batch * seen * width
        return self._made((batch, new, width))

    def embed(self, ids: Shape, name: str, scale: float = 1.0) -> Shape:
        return self._made((*ids, self._shapes[f"{name}.weight"][1]))

    def last_tokens(self, x: Shape) -> Shape:
        return (x[0], min(self._keep, x[1]), x[2])

    def _made(self, shape: Shape) -> Shape:
        self.widest = max(self.widest, prod(shape))
        return shape


def vision_counts(vlm: Vlm, tiles: int) -> Counts:
    """Counts what encoding `tiles` tiles with the vision encoder costs.

    If the model joins the crops of an image, the tiles are those of one image. If it takes images
    of any size, each tile is one image of the example size.
    """
    vision, ops = vlm.require_vision(), Count(vlm)
    match vision:
        case ImageVision(tower=tower):
            vision.forward(ops, (tower.patches, tower.patch_values))
            return Counts(tiles * ops.flops, ops.widest)
        case TileVision(tower=tower):
            vision.forward(ops, (tiles, tower.channels, tower.image_size, tower.image_size))
            if vision.crops and tiles:
                vision.crops.join(ops, (1, tower.patches, 2 * tower.hidden))
            return Counts(ops.flops, ops.widest)
        case _:
            assert_never(vision)


def decoder_counts(vlm: Vlm, new: int, past: int = 0) -> Counts:
    """Counts what one decoder pass over `new` positions after `past` cached ones costs.

    Logits are computed for the last position only.
    """
    ops = Count(vlm, past)
    vlm.text.forward(ops, (1, new, vlm.text.hidden))
    return Counts(ops.flops, ops.widest)


def cache_bytes_per_token(vlm: Vlm, value_bytes: int = FLOAT_BYTES) -> int:
    """Returns the bytes by which one more position enlarges the key-value cache of all layers.

    `value_bytes` is the size of one cached number.
    """
    return value_bytes * sum(state.values_per_token for state in vlm.text.states)
