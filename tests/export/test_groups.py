"""An ONNX file has the same bytes however few rows are read and packed at once."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import hf_model, tiny_model

from export.arrays import FloatArray
from export.onnx import parameters
from export.quantize.recipe import RECIPES
from export.targets import TARGETS
from export.weights import Weights

MOST = 2000


def written(folder: Path, recipe: str, weights: Weights | None = None) -> dict[str, bytes]:
    folder.mkdir()
    model = tiny_model(hf_model("narrow rows"))
    model = replace(model, weights=weights or model.weights)
    TARGETS["onnx"].write(model, RECIPES[recipe], folder, "native")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_groups_of_any_size_give_the_same_bytes(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = written(tmp_path / "whole", recipe)
    monkeypatch.setattr(parameters, "ROW_VALUES", 1)
    monkeypatch.setattr(parameters, "COLUMN_VALUES", 333)
    assert written(tmp_path / "parts", recipe) == whole


class Limited:
    """Weights that give no more than MOST values of a matrix at once, but for the small ones that
    no recipe rounds."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.synthetic, self.origin, self.shapes = False, weights.origin, weights.shapes

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        values = self._weights.read(name, start, stop)
        kept = name in ("v.patch_embd.weight", "v.position_embd.weight")
        assert values.ndim == 1 or kept or values.size <= MOST, name
        return values


@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_no_large_matrix_is_read_whole(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameters, "ROW_VALUES", MOST)
    monkeypatch.setattr(parameters, "COLUMN_VALUES", MOST)
    weights = tiny_model(hf_model("narrow rows")).weights
    assert written(tmp_path / "made", recipe, Limited(weights))
