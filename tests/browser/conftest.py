"""Artifacts for a browser."""

from collections.abc import Callable

import pytest

from export.artifact import Artifact
from export.build import ExportSpec, build
from export.checkpoint.registry import open_model
from export.quantize.recipe import RECIPES
from export.targets import TARGETS


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    """Makes artifacts of tiny-smolvlm in the layout transformers.js, by recipe."""
    folder = tmp_path_factory.mktemp("artifacts")
    made: dict[str, Artifact] = {}

    def make(recipe: str) -> Artifact:
        if recipe not in made:
            spec = ExportSpec("onnx", RECIPES[recipe], "transformers.js")
            model = open_model("tiny-smolvlm")
            made[recipe] = build(model, spec, folder / recipe, targets=TARGETS)
        return made[recipe]

    return make


@pytest.fixture(scope="session")
def artifact(exported: Callable[[str], Artifact]) -> Artifact:
    return exported("fp32")
