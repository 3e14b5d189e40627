"""A model opened for reading: its hyperparameters, recipes, tokenizer files and weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from export.images import ImageRecipe
from export.modeling.vlm import Vlm
from export.prompts import ChatTemplate, PromptRecipe
from export.quantize.rounding import Hessians
from export.weights import Weights


@dataclass(frozen=True)
class Model:
    """An opened model: the input of every exporter and of the reference runtime.

    image: how images are prepared; None: the model takes only text. files: name -> content of the
    tokenizer and configuration files that clients need. folder: the checkpoint; None: the weights
    are random. hessians: what calibration measured, for rounding with GPTQ; None: not calibrated.
    template: the checkpoint's chat template, which makes the prompts of `prompt`; None: it has
    none. notes: what the user should know about what was read of the checkpoint, a line each.
    """

    name: str
    vlm: Vlm
    image: ImageRecipe | None
    prompt: PromptRecipe
    weights: Weights
    files: Mapping[str, bytes]
    folder: Path | None
    """The proof opens it with transformers."""
    hessians: Hessians | None = None
    template: ChatTemplate | None = None
    notes: tuple[str, ...] = ()
