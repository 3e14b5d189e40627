"""A model opened for reading: its numbers, recipes, tokenizer files and weights, from one place."""

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
    """What an exporter and the reference runtime start from.

    `files` are the tokenizer and configuration files a client needs, by name; they are on disk
    (a checkpoint folder) or in memory (a synthetic tokenizer), so their bytes are given.
    """

    name: str
    vlm: Vlm
    image: ImageRecipe | None
    """None: the model is for text alone."""
    prompt: PromptRecipe
    weights: Weights
    files: Mapping[str, bytes]
    folder: Path | None
    """The checkpoint folder, where there is one (the proof loads the HF processor from it)."""
    hessians: Hessians | None = None
    """Hessians from calibration, for rounding with GPTQ; None without calibration."""
