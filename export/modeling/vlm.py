"""The numbers of one model: its parts, their tensors, and what all of them must meet together."""

from collections.abc import Iterator
from dataclasses import dataclass

from export.modeling.decoder import Decoder
from export.modeling.limits import size_problems
from export.modeling.region_heads import RegionHeads
from export.modeling.tensors import Shape
from export.modeling.vision import Vision

COMPONENTS = ("vision", "embedding", "decoder", "region")


@dataclass(frozen=True)
class Vlm:
    """Everything that decides names, shapes and arithmetic. Text-only models have no vision."""

    family: str
    vision: Vision | None
    text: Decoder
    bos_token_id: int
    stop_token_ids: tuple[int, ...]
    region: RegionHeads | None = None

    @property
    def image_token_id(self) -> int | None:
        """The id that stands for an image's positions in a prompt."""
        return None if self.vision is None else self.vision.image_token_id

    def require_vision(self) -> Vision:
        """The vision part, for code that is only reached with images."""
        assert self.vision is not None, "a text-only model"
        return self.vision

    def image_positions(self, tiles: int) -> int:
        """Decoder positions of one image of so many tiles."""
        return 0 if self.vision is None else self.vision.image_positions(tiles)

    def problems(self) -> Iterator[str]:
        """What is wrong with the numbers, in the words of config.json."""
        sizes = [*(self.vision.sizes() if self.vision else ()), *size_problems(self.text, "text")]
        yield from sizes or self._relations()

    def _relations(self) -> Iterator[str]:
        yield from self.text.problems()
        if self.vision is not None:
            yield from self.vision.problems()
        elif self.text.sees_later_positions or self.region:
            yield "positions of images or region heads are there, but no vision tower"
        if self.region is not None:
            yield from self.region.problems()
        image = () if self.image_token_id is None else (self.image_token_id,)
        ids = {"image_token_id": image, "bos_token_id": (self.bos_token_id,)}
        for name, values in (ids | {"eos_token_id": self.stop_token_ids}).items():
            for value in values:
                if not 0 <= value < self.text.vocab:
                    yield f"{name} {value} is not within the vocabulary of {self.text.vocab}"


def shapes(vlm: Vlm) -> dict[str, Shape]:
    """Canonical tensors of a model: name -> shape, in the order of use.

    Names are GGUF's. The one source for the checkpoint check, synthetic weights, writers, footprint
    and tests.
    """
    found = {} if vlm.vision is None else dict(vlm.vision.tensors(vlm.text.hidden))
    found |= dict(vlm.text.tensors())
    return found if vlm.region is None else found | dict(vlm.region.tensors(vlm.text.hidden))


def component(name: str) -> str:
    """The part of the model (one of COMPONENTS) that a canonical tensor belongs to."""
    if name.startswith(("v.", "mm.")):
        return "vision"
    if name.startswith("region."):
        return "region"
    return "embedding" if name == "token_embd.weight" else "decoder"
