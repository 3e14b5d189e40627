"""Rounding one model in many equal layouts, and the interval of a ratio."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from export.arrays import FloatArray
from export.modeling.tensors import Shape
from export.quantize.recipe import RECIPES
from export.quantize.simulate import Rounded
from models.train.draws import Drawn
from models.train.methods import ratio

NAME = "blk.0.attn_q.weight"
VALUES = np.random.default_rng(0).standard_normal((24, 80)).astype(np.float32)


class One:
    """export.weights.Weights of one matrix."""

    synthetic = False
    origin: Mapping[str, Any] = {}

    def shapes(self) -> Mapping[str, Shape]:
        return {NAME: VALUES.shape}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        return VALUES[start:stop]


def test_the_first_draw_is_the_stored_layout() -> None:
    expected = Rounded(One(), RECIPES["int4"]).read(NAME)
    np.testing.assert_array_equal(Drawn(One(), "search", 0).read(NAME), expected)


def test_another_draw_rounds_otherwise_and_loses_about_as_much() -> None:
    found = [Drawn(One(), "nearest", draw).read(NAME) - VALUES for draw in range(9)]
    assert len({error.tobytes() for error in found}) == 9
    losses = [float(np.square(error).sum()) for error in found]
    assert losses == pytest.approx([losses[0]] * 9, rel=0.2)
    rows = Drawn(One(), "nearest", 3).read(NAME, 5, 9)
    np.testing.assert_array_equal(rows - VALUES[5:9], found[3][5:9])


def test_a_ratio_of_means_has_an_interval_of_pairs() -> None:
    base = np.random.default_rng(1).lognormal(0, 2, 400)
    assert ratio(base, 2 * base) == pytest.approx((2, 2, 2))
    value, low, high = ratio(base, base * np.random.default_rng(2).uniform(0.5, 1.1, 400))
    assert low < value < high < 1
