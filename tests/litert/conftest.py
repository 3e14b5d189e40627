"""Bundles are converted once for all tests, as each takes a minute."""

import pytest
from built_artifacts import Made, made_once


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made_once("litert", tmp_path_factory.mktemp("litert"))
