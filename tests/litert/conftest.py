"""Bundles are converted once for all tests, as each takes a minute."""

from collections.abc import Callable
from pathlib import Path

import pytest

from export.artifact import Artifact
from export.exporter import export_model

Made = Callable[[str, str], Artifact]
"""Returns the artifact of a bundled model and a recipe, with its proof."""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("litert")
    known: dict[tuple[str, str], Artifact] = {}

    def of(model: str, recipe: str) -> Artifact:
        if (model, recipe) not in known:
            out: Path = folder / f"{model}-{recipe}"
            known[model, recipe] = export_model(model, target="litert", recipe=recipe, out=out)
        return known[model, recipe]

    return of
