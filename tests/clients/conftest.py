"""Clients that are not ours. Where one is not installed its tests are skipped, but never in CI."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from export.artifact import Artifact
from export.build import Order, build
from export.model import Model
from export.quantize.recipe import RECIPES
from export.registry import open_model
from export.targets import TARGETS
from runtimes import RUNTIMES
from runtimes.base import Request

Export = Callable[[Model, str, str], Artifact]


def lacking(what: str, remedy: str) -> None:
    """Skips the test that asks, and says so; fails it where `CI` is set."""
    reason = f"{what} is not installed ({remedy})"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; in CI it has to be")
    pytest.skip(reason)


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

    def make(model: Model, recipe: str, layout: str) -> Artifact:
        out = folder / f"{model.name}-{recipe}-{layout}"
        return build(model, Order("onnx", RECIPES[recipe], layout), out, targets=TARGETS)

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
    """tiny-smolvlm as if its images were cut: twice as long an edge."""
    checkpoint = open_model("tiny-smolvlm").folder
    assert checkpoint is not None
    folder = tmp_path_factory.mktemp("checkpoints") / "cutting"
    shutil.copytree(checkpoint, folder)
    path = folder / "preprocessor_config.json"
    text = path.read_text().replace('"longest_edge": 64\n  }\n}', '"longest_edge": 128\n  }\n}')
    path.write_text(text)
    return open_model(str(folder))
