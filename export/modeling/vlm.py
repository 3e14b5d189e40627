"""The hyperparameters of a whole model: its parts, their tensors, and checks across parts."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from export.modeling.decoder import Decoder
from export.modeling.limits import size_problems
from export.modeling.region_heads import RegionHeads
from export.modeling.tensors import Shape
from export.modeling.vision import Vision

COMPONENTS = ("vision", "embedding", "decoder", "region")


@dataclass(frozen=True)
class Vlm:
    """Hyperparameters of a vision-language model: all that its tensors and arithmetic depend on.

    vision None: the model takes only text. stop_token_ids: ids that end an answer. region: heads
    for points and boxes; None: the model has none.
    """

    family: str
    vision: Vision | None
    text: Decoder
    bos_token_id: int | None
    stop_token_ids: tuple[int, ...]
    region: RegionHeads | None = None

    @property
    def image_token_id(self) -> int | None:
        """The id of an image's positions in a prompt; None: the model takes only text."""
        return None if self.vision is None else self.vision.image_token_id

    def require_vision(self) -> Vision:
        """Returns the vision part; fails an assertion if the model takes only text."""
        assert self.vision is not None, "a text-only model"
        return self.vision

    def image_positions(self, tiles: int) -> int:
        """Returns how many decoder positions an image of `tiles` tiles takes."""
        return 0 if self.vision is None else self.vision.image_positions(tiles)

    def problems(self) -> Iterator[str]:
        """Yields a message for each invalid hyperparameter, with its name in config.json."""
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
        bos = () if self.bos_token_id is None else (self.bos_token_id,)
        ids = {"image_token_id": image, "bos_token_id": bos}
        for name, values in (ids | {"eos_token_id": self.stop_token_ids}).items():
            for value in values:
                if not 0 <= value < self.text.vocab:
                    yield f"{name} {value} is not within the vocabulary of {self.text.vocab}"


def shapes(vlm: Vlm) -> dict[str, Shape]:
    """Returns name -> shape of every tensor of a model, in the order of use.

    The names are GGUF's, called canonical. Checks, random weights, writers and predictions all take
    them from here.
    """
    found = {} if vlm.vision is None else dict(vlm.vision.tensors(vlm.text.hidden))
    found |= dict(vlm.text.tensors())
    return found if vlm.region is None else found | dict(vlm.region.tensors(vlm.text.hidden))


def decoder_parameters(vlm: Vlm) -> int:
    """Returns the number of the decoder's parameters; a head tied to the embedding is not one."""
    return sum(prod(s) for name, s in shapes(vlm).items() if component(name) == "decoder")


def component(name: str) -> str:
    """Returns the component to which the tensor of this (GGUF) name belongs.

    It is one of "vision", "embedding", "decoder" and "region".
    """
    if name.startswith(("v.", "mm.")):
        return "vision"
    if name.startswith("region."):
        return "region"
    return "embedding" if name == "token_embd.weight" else "decoder"
