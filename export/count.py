"""The counting interpreter: floating-point operations and cache bytes, from shapes alone.

NOT aware of weights, formats or time. A tensor is its shape. Products count two operations per
multiply-add; norms, activations and additions are left out (under 1 % of the products).
"""

from dataclasses import dataclass
from math import prod

from export import network
from export.families.geometry import Activation, Decoder, NormKind, Tower, Vlm
from export.families.spec import Shape
from export.shapes import shapes

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Counts:
    """What one call of a network costs; `activations` is the widest tensor it makes, in values."""

    flops: int
    activations: int


class Count:
    """Ops over shapes; `past` cached positions, `keep` positions whose logits are wanted."""

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

    def patches(self, pixels: Shape, vision: Tower) -> Shape:
        if vision.positions == "rotary":
            return self._made((1, *pixels))
        return self._made((pixels[0], vision.patches, prod(pixels[1:]) // vision.patches))

    def add_parameter(self, x: Shape, name: str) -> Shape:
        return x

    def pixel_shuffle(self, x: Shape, vision: Tower, scale: int) -> Shape:
        return (x[0], x[1] // scale**2, x[2] * scale**2)

    def average_pool(self, x: Shape, vision: Tower, scale: int) -> Shape:
        return (x[0], x[1] // scale**2, x[2])

    def merge_squares(self, x: Shape, vision: Tower) -> Shape:
        return (x[0], x[1] // vision.square**2, x[2] * vision.square**2)

    def patch_attention(self, q: Shape, k: Shape, v: Shape, vision: Tower, layer: int) -> Shape:
        tiles, patches, hidden = q
        reach = vision.reach(layer)
        seen = patches if reach is None else min(patches, reach**2)  # whole windows
        self.flops += 4 * tiles * patches * seen * hidden
        self._made((tiles, vision.heads, patches, seen))
        return q

    def cached_attention(
        self, qkv: Shape, layer: int, text: Decoder, norms: tuple[str, str] | None = None
    ) -> Shape:
        batch, new, _ = qkv
        width = text.heads * text.head_dim
        window = text.window(layer) or self._past + new
        # A position sees itself and those before it; an image's later ones are left out.
        seen = sum(min(self._past + i + 1, window) for i in range(new))
        self.flops += 4 * batch * seen * width
        return self._made((batch, new, width))

    def embed(self, ids: Shape, name: str, scale: float = 1.0) -> Shape:
        return self._made((*ids, self._shapes[f"{name}.weight"][1]))

    def wanted(self, x: Shape) -> Shape:
        return (x[0], min(self._keep, x[1]), x[2])

    def _made(self, shape: Shape) -> Shape:
        self.widest = max(self.widest, prod(shape))
        return shape


def vision_counts(vlm: Vlm, tiles: int) -> Counts:
    """Encoding `tiles` tiles; where tiles are joined, those of one image (a rotary tower: images of
    `image_size`)."""
    (v, projector), ops = vlm.sight, Count(vlm)
    if v.positions == "rotary":
        network.vision(ops, vlm, (v.patches, v.patch_values))
        return Counts(tiles * ops.flops, ops.widest)
    network.vision(ops, vlm, (tiles, v.channels, v.image_size, v.image_size))
    if projector.kind == "crops" and tiles:
        network.joined_projection(ops, (1, v.patches, 2 * v.hidden))
    return Counts(ops.flops, ops.widest)


def decoder_counts(vlm: Vlm, new: int, past: int = 0) -> Counts:
    """Computing `new` positions after `past` cached ones, with the last one's logits."""
    ops = Count(vlm, past)
    network.decoder(ops, vlm.text, (1, new, vlm.text.hidden))
    return Counts(ops.flops, ops.widest)


def cache_bytes_per_token(vlm: Vlm, value_bytes: int = FLOAT_BYTES) -> int:
    """Bytes of keys and values that one position adds."""
    text = vlm.text
    return 2 * text.layers * text.kv_heads * text.head_dim * value_bytes
