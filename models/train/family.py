"""What training needs to know of a model family. NOT aware of any family, task or optimizer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenizers import Tokenizer
from torch import Tensor, nn

# From the model, a Frame, image tokens and what is wanted of them; see moondream_regions.
RegionLoss = Callable[..., tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Prompt:
    """The exact text around a question; the image tokens stand between the first two."""

    before_image: str
    image_token: str
    after_image: str
    question: str  # with {question}
    answer: str  # with {answer}; ends with the token that ends an answer


@dataclass(frozen=True)
class Family:
    """One row of FAMILIES.

    `image_tokens` maps (batch, 3, size, size) to (batch, grid * grid, width). `hidden` runs the
    decoder on embeddings (batch, length, width) with an additive mask (1, 1, length, length) and
    positions (batch, length). `write` stores the hub's set of files. `sees_itself`: an image's
    tokens, or all that stands before the first question, attend to later ones of them too.
    `region_loss`: for models that answer with places.
    """

    prompt: Prompt
    image_size: int
    grid: int
    width: int
    tokenizer: Callable[[list[str]], Tokenizer]
    build: Callable[[Tokenizer], nn.Module]
    image_tokens: Callable[[nn.Module, Tensor], Tensor]
    embed: Callable[[nn.Module, Tensor], Tensor]
    hidden: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
    logits: Callable[[nn.Module, Tensor], Tensor]
    write: Callable[[nn.Module, Tokenizer, Path], None]
    sees_itself: Literal["", "image", "prefix"] = ""
    region_loss: RegionLoss | None = None
