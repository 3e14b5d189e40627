"""A model opened for reading: its hyperparameters, recipes, tokenizer files and weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from export.images import ImageRecipe
from export.modeling.vlm import Vlm
from export.prompts import PromptRecipe
from export.quantize.rounding import Hessians
from export.weights import Weights


@dataclass(frozen=True)
class Model:
    """An opened model: the input of every exporter and of the reference runtime.

    image: how images are prepared; None: the model takes only text. files: name -> content of the
    tokenizer and configuration files that clients need. folder: the checkpoint; None: the weights
    are random. hessians: what calibration measured, for rounding with GPTQ; None: not calibrated.
    """

    name: str
    vlm: Vlm
    image: ImageRecipe | None
    prompt: PromptRecipe
    weights: Weights
    files: Mapping[str, bytes]
    folder: Path | None
    """The proof loads the HF processor from it."""
    hessians: Hessians | None = None
