"""Weights rounded to few bits."""

import numpy as np
import pytest

from models.train.rounding import BLOCK, rounded


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_a_value_moves_by_half_a_step_at_most_or_a_step_at_the_end_without_its_own_code(
    bits: int,
) -> None:
    values = np.random.default_rng(0).normal(size=(5, 3 * BLOCK + 7)).astype(np.float32)
    moved = np.abs(rounded(values, bits) - values)
    padded = np.pad(np.abs(values), ((0, 0), (0, -values.shape[1] % BLOCK)))
    step = padded.reshape(5, -1, BLOCK).max(-1).repeat(BLOCK, 1)[:, : values.shape[1]]
    step = step / 2 ** (bits - 1)
    assert (moved <= step * 1.001).all()
    assert np.mean(moved <= step / 2 * 1.001) > 0.95
    assert moved.max() > 0


def test_values_that_codes_reach_stay() -> None:
    codes = np.tile(np.arange(-4, 4, dtype=np.float32), (2, BLOCK // 8))
    np.testing.assert_array_equal(rounded(codes * 0.25, 3), codes * 0.25)
    np.testing.assert_array_equal(rounded(np.zeros((1, BLOCK), np.float32), 3), 0)
