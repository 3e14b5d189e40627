"""The graphs of the transformers.js layout compute the same in WebAssembly, where browsers run.

They do so in both builds of ONNX Runtime Web: the plain one, and the one with WebGPU, which has
fewer operators on the CPU and is what transformers.js loads for every device.
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from clients.conftest import Export, node
from export.artifact import Artifact
from export.checkpoint.registry import open_model

MODELS = ("tiny-smolvlm", "tiny-gemma3", "tiny-qwen2.5-vl")
SIZES = {"batch_size": 1, "num_images": 2, "num_tiles": 2, "num_patches": 64}
SIZES |= {"sequence_length": 7, "total_sequence_length": 7, "past_sequence_length": 0}
Case = tuple[str, str, str, str]
Results = dict[tuple[str, str, str], np.ndarray]
TYPES = {"float": np.float32, "int64": np.int64, "bool": np.bool_}
OUTPUTS = {"vision": "image_features", "embedding": "inputs_embeds", "decoder": "logits"}
RECIPES = ("fp32", "int8", "int4")
BUILDS = ("plain", "webgpu")
LARGEST = 1e-4
"""Of fp32, relative to the largest value: rounding of sums in another order."""
AS_FAR = 1.25
"""From fp32 with integers, relative to here."""


def feeds(graph: Path) -> dict[str, np.ndarray]:
    """Something for every input."""
    random, made = np.random.default_rng(0), {}
    for value in ort.InferenceSession(graph).get_inputs():
        shape = [SIZES.get(axis, axis) for axis in value.shape]
        kind = TYPES[value.type.removeprefix("tensor(").removesuffix(")")]
        made[value.name] = np.ones(shape, kind)
        if kind is np.float32:
            made[value.name] = random.standard_normal(shape).astype(kind)
        elif value.name == "image_grid_thw":
            made[value.name] = np.array([[1, 8, 8]])
        elif value.name == "position_ids":
            made[value.name] = np.broadcast_to(np.arange(7), shape)
        elif value.name == "input_ids":
            made[value.name] = np.arange(7)[None]
    return made


def job(build: str, artifact: Artifact, part: str, fed: dict[str, np.ndarray]) -> dict[str, Any]:
    graph, *data = (str(artifact.path / file) for file in artifact.manifest.components[part])
    inputs = {
        name: (str(values.dtype), values.shape, values.ravel().tolist())
        for name, values in fed.items()
    }
    return {
        "build": build,
        "graph": graph,
        "data": data,
        "inputs": inputs,
        "outputs": [OUTPUTS[part]],
    }


@pytest.fixture(scope="module")
def errors(exported: Export, tmp_path_factory: pytest.TempPathFactory) -> dict[Case, float]:
    """Differences from what is computed here; one process runs all graphs.

    Of fp32 the largest, relative to the largest value. Where weights are integers so are the
    activations beside them, and one at a boundary may fall to the other side, here or there: so
    the distance to fp32 is compared, root mean square there relative to that here.
    """
    jobs, wanted = [], {}
    for name, recipe in product(MODELS, RECIPES):
        artifact = exported(open_model(name), recipe, "transformers.js")
        for part, output in OUTPUTS.items():
            graph = artifact.path / artifact.manifest.components[part][0]
            fed = feeds(graph)
            wanted[name, recipe, part] = ort.InferenceSession(graph).run([output], fed)[0].ravel()
            jobs += [job(build, artifact, part, fed) for build in BUILDS]
    found = node("wasm.mjs", jobs, tmp_path_factory.mktemp("jobs"))
    there = dict(zip(product(wanted, BUILDS), (np.array(v) for (v,) in found), strict=True))
    return {(*case, build): error(*case, wanted, values) for (case, build), values in there.items()}


def error(name: str, recipe: str, part: str, here: Results, there: np.ndarray) -> float:
    exact = here[name, "fp32", part]
    if recipe == "fp32":
        return float(np.abs(there - exact).max() / np.abs(exact).max())
    return rms(there - exact) / rms(here[name, recipe, part] - exact)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("part", OUTPUTS)
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", MODELS)
def test_graphs_compute_in_webassembly_what_they_do_here(
    name: str, recipe: str, part: str, build: str, errors: dict[Case, float]
) -> None:
    assert errors[name, recipe, part, build] <= (LARGEST if recipe == "fp32" else AS_FAR)
