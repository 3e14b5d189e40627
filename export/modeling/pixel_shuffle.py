"""A projector of pixel shuffle and one linear map (Shi et al. 2016, as Idefics3 uses it)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from export.modeling.ops import Ops
from export.modeling.tensors import Tensors, linear
from export.modeling.vit import Vit

T = TypeVar("T")


@dataclass(frozen=True)
class PixelShuffle:
    """Maps patches of the vision encoder to decoder embeddings, as Idefics3 does.

    It concatenates scale x scale neighbouring patches and applies a linear map without bias.
    """

    scale: int
    kind: Literal["pixel_shuffle"] = "pixel_shuffle"

    def tokens(self, tower: Vit) -> int:
        """Returns how many decoder positions (tokens) one tile of an image takes."""
        return tower.patches // self.scale**2

    def tensors(self, tower: Vit, hidden: int) -> Tensors:
        """Yields name and shape of every weight tensor; `hidden` is the decoder's width."""
        yield from linear("mm.model.fc", hidden, tower.hidden * self.scale**2, bias=False)

    def forward(self, ops: Ops[T], tower: Vit, x: T) -> T:
        """Maps N patches of each of T tiles [T, N, H] to embeddings [T, N / scale^2, hidden]."""
        return ops.linear(ops.pixel_shuffle(x, tower.grid, self.scale), "mm.model.fc")

    def problems(self, tower: Vit) -> Iterator[str]:
        """Yields a message for each invalid hyperparameter, with its name in config.json."""
        if tower.side % self.scale:
            yield (
                f"the {tower.side} patches along image_size {tower.image_size} are not a multiple "
                f"of scale_factor {self.scale}"
            )
