"""The lowest versions that pyproject.toml declares, as `make test-lowest` installs them."""

import tomllib

import pytest
from lowest import PYPROJECT, lowest, pins

PROJECT = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]


def test_every_requirement_has_one_lowest_version() -> None:
    assert {"numpy", "torch", "onnxruntime", "ruff"} <= lowest(PROJECT).keys()


def test_a_requirement_without_a_lowest_version_is_named() -> None:
    project = {"dependencies": ["numpy"], "optional-dependencies": {}}
    with pytest.raises(AssertionError, match="numpy: expected NAME>=VERSION"):
        lowest(project)


def test_two_lowest_versions_of_a_package_are_refused() -> None:
    project = {"dependencies": ["numpy>=2.0"], "optional-dependencies": {"onnx": ["numpy>=2.1"]}}
    with pytest.raises(AssertionError, match="numpy has two lowest versions"):
        lowest(project)


def test_given_pins_replace_the_lowest() -> None:
    found = pins({"numpy": "2.0", "torch": "2.6"}, ["torch==2.13.0"])
    assert found == ["numpy==2.0", "torch==2.13.0"]
