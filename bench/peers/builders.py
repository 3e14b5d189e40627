"""The targets that other projects' exporters write, each in an environment of its own."""

import math
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.peers.checkpoint import decoder_names, write_decoder_checkpoint
from export.errors import UserError
from export.files import short
from export.manifest import Quantization, Share
from export.model import Model
from export.quantize.recipe import Recipe
from export.target import Target, Written
from runtimes.peers.environments import python
from runtimes.peers.program import last, variables

OV_GROUP = "64"
"""Columns of a group of int4 weights. The default, 128, does not divide SmolVLM-256M's 576."""


def write_genai(model: Model, recipe: Recipe, folder: Path, layout: str) -> Written:
    """Build the model's text decoder with onnxruntime_genai.models.builder into a folder.

    Uses the builder's defaults for a CPU; `layout` is ignored. Raises UserError if it fails.
    """

    def words(checkpoint: Path, scratch: Path) -> list[str]:
        options = ["-i", checkpoint, "-o", folder, "-p", recipe.name, "-e", "cpu", "-c", scratch]
        return ["-m", "onnxruntime_genai.models.builder", *map(str, options)]

    return _written(model, recipe, folder, ("genai", "onnxruntime-genai's builder"), words)


def write_openvino(model: Model, recipe: Recipe, folder: Path, layout: str) -> Written:
    """Export the model's text decoder with optimum-intel into a folder, for OpenVINO GenAI.

    `layout` is ignored. Raises UserError if it fails.
    """

    def words(checkpoint: Path, scratch: Path) -> list[str]:
        group = ["--group-size", OV_GROUP] if recipe.name == "int4" else []
        options = ["--task", "text-generation-with-past", "--weight-format", recipe.name, *group]
        command = ["export", "openvino", "--model", str(checkpoint), *options, str(folder)]
        return ["-m", "optimum.commands.optimum_cli", *command]

    return _written(model, recipe, folder, ("openvino", "optimum-intel"), words)


def _written(
    model: Model,
    recipe: Recipe,
    folder: Path,
    by: tuple[str, str],
    words: Callable[[Path, Path], Sequence[str]],
) -> Written:
    """Run an exporter on the decoder's checkpoint, and describe what it wrote to the folder.

    `by`: the name of its environment, and its own. `words`: its command line after `python`, made
    of the checkpoint's folder and a folder for temporary files.
    """
    environment, exporter = by
    interpreter = python(environment)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        write_decoder_checkpoint(model, checkpoint)
        command = [str(interpreter), *words(checkpoint, Path(scratch))]
        own = {**variables(), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=own, check=False
        )
    if done.returncode:
        said = short(last(done.stderr.splitlines()), 300)
        raise UserError(f"{exporter} failed: {said}")
    files = tuple(path.name for path in sorted(folder.iterdir()))
    size = sum((folder / name).stat().st_size for name in files)
    shapes = model.weights.shapes()
    parameters = sum(math.prod(shapes[name]) for name in decoder_names(model))
    shares = {"decoder": Share(parameters, 0, size)}
    kinds = {f"as {exporter} writes {recipe.name}": parameters}
    return Written({"decoder": files}, Quantization.of(shares, kinds, ()))


BUILDERS: Mapping[str, Target] = {
    "genai": Target(layouts=("native",), write=write_genai),
    # The client's files of our model would replace what optimum-intel wrote.
    "openvino": Target(
        layouts=("native",), write=write_openvino, client_files=lambda model, recipe, layout: {}
    ),
}
