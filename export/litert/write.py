"""Writes a model as a LiteRT-LM bundle, which Google's runner opens on phones."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from export.litert.bundle import pack
from export.litert.networks import Kind, networks
from export.litert.sections import convert, round_to_8_bits
from export.litert.stored import PARTS, quantization
from export.manifest import Details
from export.model import Model
from export.quantize.recipe import Recipe
from export.target import Written

BUNDLE = "model.litertlm"


def write(model: Model, recipe: Recipe, folder: Path, layout: str) -> Written:
    """Writes model.litertlm into `folder` (Target.write). The whole model is in memory meanwhile.

    Returns how the weights are stored, and what the runner computes differently.
    """
    models: dict[Kind, Path] = {}
    with tempfile.TemporaryDirectory(dir=folder) as work:
        for kind, signatures in networks(model).items():
            models[kind] = Path(work) / f"{kind}.tflite"
            convert(signatures, models[kind])
            if recipe.least_bits == 8:
                round_to_8_bits(models[kind])
        stored = quantization(model.weights, recipe, models, model.vlm.text.tied)
        pack(model, models, Path(work), folder / BUNDLE)
    files = {PARTS[kind]: (BUNDLE,) for kind in models}
    return Written(files, stored, Details(limits=tuple(_limits(model))))


def _limits(model: Model) -> Iterator[str]:
    if model.template is None:
        yield "LiteRT-LM: the checkpoint has no chat template, so apps must write the prompt"
    if model.image is None:
        return
    yield (
        "LiteRT-LM resizes images with another filter (Catmull-Rom, of linear light) than the "
        f"checkpoint ({model.image.resample})"
    )
    if model.image.most_tiles > 1:
        yield "LiteRT-LM stretches every image to one tile; the checkpoint cuts large ones"
