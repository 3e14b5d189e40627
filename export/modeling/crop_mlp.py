"""A projector that joins a whole image and its crops by a feed-forward network (Moondream 2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from export.modeling.ops import Ops
from export.modeling.tensors import Tensors, linear
from export.modeling.vit import Vit

T = TypeVar("T")


@dataclass(frozen=True)
class CropMlp:
    """Maps an image, seen as a whole and as up to `crops` overlapping crops, to embeddings.

    Neighbouring crops share 2 * `margin` patches; each crop gives those nearer to its middle. The
    crops' patches are stitched and averaged down to as many as one tile has, concatenated with
    those of the whole image and mapped by a feed-forward network with `inner` hidden values.
    """

    margin: int
    crops: int
    inner: int
    kind: Literal["crop_mlp"] = "crop_mlp"

    def tokens(self, tower: Vit) -> int:
        """Returns how many decoder positions (tokens) an image takes, however many crops it has."""
        return tower.patches

    def tensors(self, tower: Vit, hidden: int) -> Tensors:
        """Yields name and shape of every weight tensor; `hidden` is the decoder's width."""
        yield from linear("mm.0", self.inner, 2 * tower.hidden)
        yield from linear("mm.1", hidden, self.inner)

    def forward(self, ops: Ops[T], tower: Vit, x: T) -> T:
        """Returns the patches `x` [T, N, H] unchanged; `join` maps them after all are stitched."""
        return x

    def join(self, ops: Ops[T], x: T) -> T:
        """Maps N patches [1, N, 2 H] of one image to decoder embeddings [1, N, hidden].

        Each has H values of the whole image, then H values of the stitched crops.
        """
        inner = ops.activation(ops.linear(x, "mm.0", bias=True), "gelu_tanh")
        return ops.linear(inner, "mm.1", bias=True)

    def problems(self, tower: Vit) -> Iterator[str]:
        """Yields a message for each invalid hyperparameter, with its name in config.json."""
        if not 0 <= 2 * self.margin < tower.side:
            yield (
                f"overlap_margin {self.margin} does not fit crops of {tower.side} patches along an "
                f"edge"
            )
        if not 1 <= self.crops <= 1 << 10:
            yield f"max_crops {self.crops} is not between 1 and 1024"
