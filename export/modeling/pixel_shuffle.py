"""Pixel shuffle, then one linear map (Shi et al. 2016, as Idefics3 uses it)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from export.modeling.ops import Ops
from export.modeling.tensors import Tensors, linear
from export.modeling.vit import Vit

T = TypeVar("T")


@dataclass(frozen=True)
class PixelShuffle:
    """scale x scale neighbouring patches side by side, then a linear map without bias."""

    scale: int
    kind: Literal["pixel_shuffle"] = "pixel_shuffle"

    def tokens(self, tower: Vit) -> int:
        """Decoder positions of one tile."""
        return tower.patches // self.scale**2

    def tensors(self, tower: Vit, hidden: int) -> Tensors:
        """Names and shapes; `hidden` is the decoder's width."""
        yield from linear("mm.model.fc", hidden, tower.hidden * self.scale**2, bias=False)

    def forward(self, ops: Ops[T], tower: Vit, x: T) -> T:
        """Patches [T, N, H] -> [T, N / scale^2, hidden]."""
        return ops.linear(ops.pixel_shuffle(x, tower.grid, self.scale), "mm.model.fc")

    def problems(self, tower: Vit) -> Iterator[str]:
        """What is wrong with the numbers, in the words of config.json."""
        if tower.side % self.scale:
            yield (
                f"the {tower.side} patches along image_size {tower.image_size} are not a multiple "
                f"of scale_factor {self.scale}"
            )
