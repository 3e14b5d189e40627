"""Clients that are not ours. Where one is not installed its tests are skipped, but never in CI."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from export.artifact import Artifact
from export.build import ExportSpec, build
from export.checkpoint.registry import open_model
from export.model import Model
from export.quantize.recipe import RECIPES
from export.targets import TARGETS
from runtimes import RUNTIMES
from runtimes.base import Request

HERE = Path(__file__).parent
Export = Callable[[Model, str, str], Artifact]


def lacking(what: str, remedy: str) -> None:
    """Skips the test that asks, and says so; fails it where `CI` is set."""
    reason = f"{what} is not installed ({remedy})"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; in CI it has to be")
    pytest.skip(reason)


def expect_node() -> None:
    """Node.js and transformers.js are installed."""
    if shutil.which("node") is None:
        lacking("Node.js", "version 20 or newer, https://nodejs.org")
    if not (HERE / "node_modules" / "@huggingface" / "transformers").is_dir():
        lacking("transformers.js", "make clients")


def expect_genai() -> None:
    """onnxruntime-genai is installed."""
    if find_spec("onnxruntime_genai") is None:
        lacking("onnxruntime-genai", "pip install 'pocket-vlm[peers]'")


def node(script: str, jobs: Sequence[Mapping[str, Any]], folder: Path) -> list[Any]:
    """What a script of this folder prints of each job, run in Node.js; `folder` is for the jobs."""
    expect_node()
    file = folder / "jobs.json"
    file.write_text(json.dumps(jobs))
    # Optimizing ONNX Runtime's largest build takes a minute, running these jobs without a second.
    command = ["node", "--liftoff-only", str(HERE / script), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] in ("{", "[")]


def greedy(runtime: str, subject: Artifact | Model, request: Request) -> list[int | None]:
    """The tokens of our own runtime's answer."""
    session = RUNTIMES[runtime].open_session(subject, threads=1)
    tokens = [event.token for event in session.generate(request) if event.kind == "token"]
    session.close()
    return tokens


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Makes artifacts of the ONNX target, by model, recipe and layout."""
    folder = tmp_path_factory.mktemp("artifacts")
    made: dict[Path, Artifact] = {}

    def make(model: Model, recipe: str, layout: str) -> Artifact:
        out = folder / f"{model.name}-{recipe}-{layout}"
        if out not in made:
            spec = ExportSpec("onnx", RECIPES[recipe], layout)
            made[out] = build(model, spec, out, targets=TARGETS)
        return made[out]

    return make


@pytest.fixture(scope="session")
def picture_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Image.Image], Path]:
    """Saves pictures as PNG."""
    folder = tmp_path_factory.mktemp("pictures")

    def save(image: Image.Image) -> Path:
        path = folder / f"{len(list(folder.iterdir()))}.png"
        image.save(path)
        return path

    return save


@pytest.fixture(scope="session")
def cutting_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """tiny-smolvlm as a SmolVLM2 whose images may be twice as long, so that they are cut."""
    checkpoint = open_model("tiny-smolvlm").folder
    assert checkpoint is not None
    folder = tmp_path_factory.mktemp("checkpoints") / "cutting"
    shutil.copytree(checkpoint, folder)
    changed(folder / "config.json", {"model_type": "smolvlm"})
    changed(folder / "preprocessor_config.json", {"size": {"longest_edge": 128}})
    return open_model(str(folder))


def changed(file: Path, values: Mapping[str, Any]) -> None:
    """Writes other values into a JSON file; those of objects in it are joined."""
    content = json.loads(file.read_text())
    for key, value in values.items():
        inner = isinstance(content.get(key), dict) and isinstance(value, dict)
        content[key] = {**content[key], **value} if inner else value
    file.write_text(json.dumps(content))
