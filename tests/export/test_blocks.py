"""Rounding to few bits agrees with ggml's and stays within half a step."""

from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from export.quantize import blocks

RNG = np.random.default_rng(0)
VALUES = (RNG.standard_normal((48, 96)) * RNG.uniform(0.1, 3, (48, 1))).astype(np.float32)


@pytest.mark.parametrize(("bits", "kind", "zero"), [(4, "Q4_0", 8), (8, "Q8_0", 128)])
def test_codes_equal_ggmls_except_for_its_half_precision_scales(
    bits: int, kind: str, zero: int
) -> None:
    rounded = blocks.four_bits(VALUES, 32) if bits == 4 else blocks.eight_bits(VALUES, 32)
    codes, scales = rounded
    found = ((codes - np.float32(zero)) * scales[..., None]).reshape(VALUES.shape)
    packed = quants.quantize(VALUES, GGMLQuantizationType[kind])
    expected = quants.dequantize(packed, GGMLQuantizationType[kind])
    # ggml keeps a scale in half precision: 2^-11 relative, times codes of up to 8 or 127.
    assert np.abs(found - expected).max() <= np.abs(VALUES).max() * 2**-10


@pytest.mark.parametrize("block", [16, 32, 64])
def test_columns_that_fill_no_block_are_padded_with_zeros(block: int) -> None:
    values = VALUES[:, :70]
    codes, scales = blocks.eight_bits(values, block)
    count = -(-70 // block)
    assert codes.shape == (48, count, block)
    assert scales.shape == (48, count)
    back = ((codes - np.float32(128)) * scales[..., None]).reshape(48, -1)
    assert np.abs(back[:, :70] - values).max() <= np.abs(values).max() / 127 / 2 + 1e-6
    assert not back[:, 70:].any()


def test_a_block_of_zeros_stays_zero() -> None:
    zeros = np.zeros((2, 32), np.float32)
    assert blocks.four_bits(zeros, 32)[1].tolist() == [[0.0], [0.0]]
    assert blocks.eight_bits(zeros, 32)[1].tolist() == [[0.0], [0.0]]
    assert not blocks.eight_bit_rows(zeros)[0].any()


@pytest.mark.parametrize("rounded", [blocks.four_bits, blocks.four_bits_searched])
def test_positive_scales_cost_a_little_more_error(rounded: Any) -> None:
    errors = []
    for positive in (False, True):
        codes, scales = rounded(VALUES, 32, positive)
        assert codes.max() <= 15
        assert (scales > 0).all() == positive
        back = ((codes - np.float32(8)) * scales[..., None]).reshape(VALUES.shape)
        errors.append(float(np.square(back - VALUES).sum()))
    assert 1 < errors[1] / errors[0] < 1.25


def test_a_positive_scale_to_nearest_clips_no_value() -> None:
    codes, scales = blocks.four_bits(VALUES, 32, positive=True)
    back = ((codes - np.float32(8)) * scales[..., None]).reshape(VALUES.shape)
    assert (np.abs(back - VALUES) <= np.repeat(scales, 32, axis=1) * 0.5001).all()


def test_rows_of_eight_bits_are_within_half_a_step() -> None:
    codes, scales = blocks.eight_bit_rows(VALUES)
    assert (np.abs(codes * scales[:, None] - VALUES) <= scales[:, None] * 0.5 + 1e-7).all()


def test_two_codes_share_a_byte_low_half_first() -> None:
    assert blocks.pairs(np.array([[1, 2, 15, 0]], np.uint8)).tolist() == [[0x21, 0x0F]]


def test_factors_of_a_row_scale_add_little_error() -> None:
    plain, scales = blocks.four_bits_searched(VALUES, 32)
    factors, rows = blocks.row_factors(scales)
    errors = [
        np.square(back.reshape(VALUES.shape) - VALUES).sum()
        for back in (
            (plain - np.float32(8)) * scales[..., None],
            (plain - np.float32(8)) * (factors * rows)[..., None],
        )
    ]
    assert np.abs(factors.astype(int)).max() == 127
    assert errors[1] < 1.005 * errors[0]


def test_eight_bit_factors_clip_no_value() -> None:
    values = VALUES * RNG.uniform(0.001, 1, (48, 3)).astype(np.float32).repeat(32, axis=1)
    codes, factors, rows = blocks.eight_bit_factors(values, 32)
    steps = (factors * rows)[..., None]
    off = np.abs((codes - np.float32(128)) * steps - values.reshape(codes.shape))
    assert (off <= 0.501 * steps).all()
    zeros = blocks.eight_bit_factors(np.zeros((2, 32), np.float32), 32)
    assert [part.tolist() for part in zeros[1:]] == [[[0], [0]], [[0.0], [0.0]]]
