"""Writes a model as an ExecuTorch program: one .pte with a method for each network."""

from dataclasses import replace
from pathlib import Path

from export.executorch.layers import Layers
from export.executorch.ledger import Ledger
from export.executorch.lower import lower
from export.executorch.metadata import PROGRAM, cached_positions, constants, new_positions
from export.executorch.methods import methods
from export.manifest import Details, ExecutorchDetails
from export.model import Model
from export.modeling.vlm import COMPONENTS
from export.quantize.recipe import Recipe
from export.target import Written


def write(model: Model, recipe: Recipe, folder: Path, layout: str) -> Written:
    """Writes model.pte into `folder` (Target.write). The whole model is in memory while it does.

    Returns how the weights are stored and what of each method XNNPACK runs.
    """
    ledger = Ledger()

    def make(part: str, edge: int) -> Layers:
        return Layers(model, recipe, ledger, part, edge)

    lowered = lower(methods(model, make), constants(model))
    lowered.save(folder / PROGRAM)
    quantization = ledger.result()
    parts = tuple(part for part in COMPONENTS if part in quantization.components)
    details = ExecutorchDetails(
        cached_positions(model.vlm),
        new_positions(model.vlm),
        ("llama", "quantized"),
        lowered.methods,
    )
    return Written(
        dict.fromkeys(parts, (PROGRAM,)),
        quantization,
        replace(Details(), executorch=details),
    )
