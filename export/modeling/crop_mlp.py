"""Crops of an image beside the whole of it, through a feed-forward (Moondream 2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from export.modeling.ops import Ops
from export.modeling.tensors import Tensors, linear
from export.modeling.vit import Vit

T = TypeVar("T")


@dataclass(frozen=True)
class CropMlp:
    """An image is the whole of it, in one tile, and up to `crops` overlapping crops.

    Neighbouring crops share 2 `margin` patches; each keeps those nearer to its own middle. The
    crops' patches are stitched and averaged down to one tile's (runtimes/prepare/crops.py), laid
    beside those of the whole image and mapped by a feed-forward that is `inner` wide.
    """

    margin: int
    crops: int
    inner: int
    kind: Literal["crop_mlp"] = "crop_mlp"

    def tokens(self, tower: Vit) -> int:
        """Decoder positions of an image, whatever its crops."""
        return tower.patches

    def tensors(self, tower: Vit, hidden: int) -> Tensors:
        """Names and shapes; `hidden` is the decoder's width."""
        yield from linear("mm.0", self.inner, 2 * tower.hidden)
        yield from linear("mm.1", hidden, self.inner)

    def forward(self, ops: Ops[T], tower: Vit, x: T) -> T:
        """Patches [T, N, H] as they are: `join` takes them once all crops are stitched."""
        return x

    def join(self, ops: Ops[T], x: T) -> T:
        """Patches of the whole image beside those of its crops [1, N, 2 H] -> [1, N, hidden]."""
        inner = ops.activation(ops.linear(x, "mm.0", bias=True), "gelu_tanh")
        return ops.linear(inner, "mm.1", bias=True)

    def problems(self, tower: Vit) -> Iterator[str]:
        """What is wrong with the numbers, in the words of config.json."""
        if not 0 <= 2 * self.margin < tower.side:
            yield (
                f"overlap_margin {self.margin} does not fit crops of {tower.side} patches along an "
                f"edge"
            )
        if not 1 <= self.crops <= 1 << 10:
            yield f"max_crops {self.crops} is not between 1 and 1024"
