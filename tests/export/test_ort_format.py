"""Layout ort: nothing of the model or of the machine is decided in the conversion.

What other programs read in the files is asked of ONNX Runtime's own tools (ort_tools.py).
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from pages import blocks
from tiny_models import tiny_artifact

from export.__main__ import main
from export.artifact import Artifact
from export.checkpoint.registry import data_root, open_model
from export.onnx.data import DataFile
from export.onnx.graph import GRAPHS, graphs_of
from export.onnx.layouts import LAYOUTS
from export.onnx.ledger import Ledger
from export.onnx.ort_plan import OPERATORS
from export.onnx.parameters import Parameters
from export.quantize.recipe import RECIPES
from runtimes import RUNTIMES
from runtimes.base import Request
from runtimes.proof.probes import probes

EXPORT = ["tiny-smolvlm", "--target", "onnx", "--recipe", "int4", "--layout", "ort"]
MODELS = ("tiny-smolvlm", "tiny-gemma3", "tiny-qwen2.5-vl", "tiny-moondream")
CASES = [(model, recipe) for model in MODELS for recipe in RECIPES]
EVERY = pytest.mark.parametrize(("model", "recipe"), CASES)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str], Artifact]:
    """Of every bundled model and recipe."""
    folder, made = tmp_path_factory.mktemp("ort"), {}
    for model, recipe in CASES:
        place = folder / f"{model}-{recipe}"
        place.mkdir()
        made[model, recipe] = tiny_artifact(open_model(model), "onnx", recipe, place, "ort")
    return made


@pytest.fixture(scope="module")
def tools(artifacts: Mapping[tuple[str, str], Artifact]) -> Mapping[tuple[str, str], Any]:
    """What ONNX Runtime's tools say of each artifact."""
    script = data_root() / "tests" / "shared" / "ort_tools.py"
    folders = [str(artifact.path) for artifact in artifacts.values()]
    done = subprocess.run(
        [sys.executable, str(script), *folders], capture_output=True, text=True, check=True
    )
    lines = map(json.loads, done.stdout.splitlines())
    return dict(zip(artifacts, lines, strict=True))


@EVERY
def test_the_list_has_the_operators_that_onnx_runtimes_tool_finds_in_the_files(
    model: str, recipe: str, tools: Mapping[tuple[str, str], Any]
) -> None:
    found = tools[model, recipe]
    assert found["needed"]
    assert found["ours"] == found["needed"]


@EVERY
def test_the_files_have_the_nodes_that_were_emitted(
    model: str, recipe: str, tools: Mapping[tuple[str, str], Any]
) -> None:
    opened, expected = open_model(model), {}
    for component in graphs_of(opened.vlm):
        data = DataFile(Path("unwritten"), known={})
        parameters = Parameters(
            opened.weights, RECIPES[recipe], data, Ledger(), folded=LAYOUTS["ort"].ort
        )
        graph = GRAPHS[component](opened.vlm, parameters, LAYOUTS["ort"])
        expected[GRAPHS[component].__name__] = len(list(graph.graph))
    assert tools[model, recipe]["nodes"] == expected


@EVERY
def test_the_artifact_has_no_other_graphs_and_names_no_path(
    model: str, recipe: str, artifacts: Mapping[tuple[str, str], Artifact]
) -> None:
    artifact = artifacts[model, recipe]
    files = {file for files in artifact.manifest.components.values() for file in files}
    assert files == {path.name for path in artifact.path.glob("*.ort")}
    assert not list(artifact.path.glob("*.onnx*"))
    assert all("/" not in line for line in (artifact.path / OPERATORS).read_text().splitlines())


@EVERY
def test_features_and_logits_are_those_of_layout_native(
    model: str, recipe: str, artifacts: Mapping[tuple[str, str], Artifact], tmp_path: Path
) -> None:
    native = tiny_artifact(open_model(model), "onnx", recipe, tmp_path)
    image = probes(112 if "qwen" in model else 64)[0].images[0]
    request = Request("what color is it?", (image,), max_tokens=6, arrays=True)
    found = []
    for artifact in (native, artifacts[model, recipe]):
        session = RUNTIMES["onnxruntime"].open_session(artifact, threads=1)
        found.append(list(session.generate(request)))
        session.close()
    for one, other in zip(*found, strict=True):
        assert one.token == other.token
        for expected, array in ((one.features, other.features), (one.logits, other.logits)):
            if expected is not None:
                # Products in float are not packed where their weights are cast in each run.
                exact = recipe in ("int8", "int4")
                np.testing.assert_allclose(array, expected, rtol=0, atol=0 if exact else 2e-4)


@pytest.mark.parametrize("recipe", ["fp32", "int4"])
@pytest.mark.parametrize("model", MODELS)
def test_optimization_changes_nothing_of_what_the_files_compute(
    model: str, recipe: str, artifacts: Mapping[tuple[str, str], Artifact]
) -> None:
    found = []
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        path = artifacts[model, recipe].file("embedding")
        embedding = ort.InferenceSession(path, options)
        embeds = embedding.run(None, {"input_ids": np.array([[5, 7, 9]])})[0]
        decoder = ort.InferenceSession(artifacts[model, recipe].file("decoder"), options)
        feeds = {value.name: _fed(value, embeds) for value in decoder.get_inputs()}
        found.append(decoder.run(["logits"], feeds)[0])
    assert np.array_equal(*found)


def _fed(value: Any, embeds: np.ndarray) -> np.ndarray:
    length = embeds.shape[1]
    if value.name.startswith("past_key_values"):
        return np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
    positions = np.arange(length)
    return {
        "inputs_embeds": embeds,
        "attention_mask": np.ones((1, length), np.int64),
        "num_logits_to_keep": np.array(length),
        "image_numbers": np.zeros((1, length), np.int64),
        "position_ids": np.tile(positions, (3, 1, 1)),
    }[value.name]


def test_the_guides_loop_runs_the_files_by_their_names(tmp_path: Path) -> None:
    out = tmp_path / "build" / "tiny-smolvlm" / "onnx-int4-ort"
    assert main([*EXPORT, "--no-verify", "--out", str(out)]) == 0
    (tmp_path / "models").symlink_to(data_root() / "models")
    (loop,) = blocks(data_root() / "docs" / "guide" / "mobile.md", "python")
    for native, other in (("onnx-int4", "onnx-int4-ort"), (".onnx", ".ort")):
        assert native in loop
        loop = loop.replace(native, other)
    done = subprocess.run(
        [sys.executable, "-c", loop],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(data_root())},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "3"


def test_a_file_that_would_be_too_large_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["gemma-3-4b", "--weights", "synthetic", "--target", "onnx", "--recipe", "int8"]
    assert main([*words, "--layout", "ort", "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --layout ort: decoder_model_merged.ort would have 4.")
    assert "ends at 2.15 GB" in line
    assert "--layout native" in line
    assert not any(tmp_path.iterdir())


def test_a_conversion_that_fails_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    def limit() -> None:  # more than the graph's data, less than the .ort file
        resource.setrlimit(resource.RLIMIT_FSIZE, (630_000, 630_000))

    line = refusal(["-B", "-m", "export"], tmp_path, limit)
    assert line.startswith("error: vision_encoder.ort: onnxruntime cannot write it (")
    assert "--layout native" in line


def test_without_onnxruntime_the_remedy_is_one_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['onnxruntime'] = None; from export.__main__ import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    line = refusal(["-c", code], tmp_path)
    assert line.startswith("error: --layout ort: onnxruntime is not installed")
    assert "pip install 'pocket-vlm[onnxruntime]'" in line


def refusal(python: list[str], folder: Path, before: Callable[[], None] | None = None) -> str:
    """Returns the one line with which an export in a process of its own ends; it leaves nothing."""
    done = subprocess.run(
        [sys.executable, *python, *EXPORT, "--out", str(folder / "out")],
        cwd=data_root(),
        preexec_fn=before,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert not any(folder.iterdir())
    return line
