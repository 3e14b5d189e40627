"""Rounds values to a few bits with scales that blocks or rows share.

Functions take float32 [rows, columns]; columns are padded with zeros to whole blocks.
"""

import numpy as np
from numpy.typing import NDArray

from export.arrays import FloatArray

Codes = NDArray[np.uint8]

# Codes (of -8 … 7) that a block's largest magnitude is scaled to; beyond 8 it is clipped.
REACHES = (7.2, 8.0, 8.6)


def four_bits(values: FloatArray, block: int) -> tuple[Codes, FloatArray]:
    """Codes 0…15 [rows, blocks, block] and scales [rows, blocks]; value = (code - 8) * scale.

    The value of largest magnitude in a block maps to code 0 exactly, so a scale may be negative
    (ggml's Q4_0, ggml-quants.c quantize_row_q4_0_ref, with float32 scales).
    """
    blocks = _blocks(values, block)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    scales = largest / np.float32(-8)
    blocks = blocks * inverse(scales)
    blocks += np.float32(8.5)
    return np.clip(blocks, 0, 15, out=blocks).astype(np.uint8), scales[..., 0]


def four_bits_searched(values: FloatArray, block: int) -> tuple[Codes, FloatArray]:
    """As `four_bits`, with a smaller squared error: several scales are tried for each block.

    Each of `REACHES` gives a scale, and that scale the codes; the codes' least-squares scale then
    replaces it (as in ggml-quants.c make_qx_quants). The best of them is improved once more. The
    final scale preserves the block's inner product with itself: least squares shortens every block
    a little, and errors in one direction add up where others cancel (Vargaftik et al. 2021, DRIVE,
    arXiv 2105.08339, has this scale for one bit). The error is 10 % below that of `four_bits` on
    normal values.
    """
    blocks = _blocks(values, block)
    codes, scales, explained = _searched(blocks)
    scales *= np.einsum("rbi,rbi->rb", blocks, blocks) * inverse(explained)
    codes += np.float32(8)
    return codes.astype(np.uint8), scales


def block_scales(values: FloatArray) -> FloatArray:
    """The least-squares scales [rows] of the search in `four_bits_searched`; a row is one block."""
    return _searched(values[:, None])[1][:, 0]


def eight_bits(values: FloatArray, block: int) -> tuple[Codes, FloatArray]:
    """Codes 1…255 [rows, blocks, block] and scales [rows, blocks]; value = (code - 128) * scale.

    Round to nearest with scale = max |value| / 127 (ggml's Q8_0 with float32 scales).
    """
    blocks = _blocks(values, block)
    scales = np.abs(blocks).max(-1, keepdims=True) / np.float32(127)
    blocks = np.rint(blocks * inverse(scales))
    blocks += np.float32(128)
    return blocks.astype(np.uint8), scales[..., 0]


def row_factors(scales: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """Scales [rows, blocks] as factors -127…127 of one scale a row [rows, 1]."""
    rows = row_scales(scales, 127)[:, None]
    return np.rint(scales * inverse(rows)).astype(np.int8), rows


def eight_bit_factors(values: FloatArray, block: int) -> tuple[Codes, NDArray[np.int8], FloatArray]:
    """Codes 1…255 [rows, blocks, block], factors 0…127 [rows, blocks] and scales [rows, 1].

    value = (code - 128) * factor * scale. A factor is the smallest that clips no value.
    """
    blocks = _blocks(values, block)
    ideal = np.abs(blocks).max(-1) / np.float32(127)
    scales = row_scales(ideal, 127)[:, None]
    factors = np.minimum(np.ceil(ideal * inverse(scales)), np.float32(127))
    codes = np.rint(blocks * inverse(factors * scales)[..., None])
    codes += np.float32(128)
    return codes.astype(np.uint8), factors.astype(np.int8), scales


def eight_bit_rows(values: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """Codes -127…127 [rows, columns] and one scale a row [rows]; value = code * scale."""
    scales = np.abs(values).max(-1, keepdims=True) / np.float32(127)
    return np.rint(values * inverse(scales)).astype(np.int8), scales[:, 0]


def four_bit_rows(
    values: FloatArray, block: int
) -> tuple[NDArray[np.int8], NDArray[np.int8], FloatArray]:
    """Four-bit codes that one integer product turns into int8.

    Codes -8…7 [rows, blocks, block], factors -15…15 [rows, blocks] and one scale a row [rows];
    value = code * factor * scale, and code * factor is an int8. A block's factor is one of the two
    integers around its ideal scale: the one with the smaller squared error.
    """
    _, ideal = four_bits(values, block)
    scales = row_scales(ideal, 15)
    inverses = inverse(scales)
    units = _blocks(values, block) * inverses[:, None, None]
    codes, factors = factored(units, ideal * inverses[:, None])
    return codes, factors, scales


def row_scales(ideal: FloatArray, most: int) -> FloatArray:
    """The scale of each row [rows]; in units of it, its blocks' ideal scales are at most `most`."""
    return np.abs(ideal).max(-1) / np.float32(most)  # type: ignore[no-any-return]


def factored(units: FloatArray, wanted: FloatArray) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Codes of values [rows, blocks, block], and integer factors near the `wanted` [rows, blocks].

    Of the two integers around a wanted factor, the one with the smaller squared error is taken.
    """
    lower = np.sign(wanted) * np.clip(np.floor(np.abs(wanted)), 1, 15)
    upper = np.sign(wanted) * np.clip(np.ceil(np.abs(wanted)), 1, 15)
    (codes, error), (other, other_error) = (_coded(units, f) for f in (lower, upper))
    better = other_error < error
    factors = np.where(better, upper, lower).astype(np.int8)
    return np.where(better[..., None], other, codes).astype(np.int8), factors


def pairs(codes: Codes) -> Codes:
    """Two 4-bit codes a byte along the last axis, the first in the low half."""
    return codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4))


def _searched(blocks: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Codes -8…7 as floats, in the shape of `blocks` [rows, blocks, block], and what `_fitted`
    returns for them."""
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)[..., 0]
    units = -inverse(largest)
    best, scales = np.zeros_like(units), np.zeros_like(units)
    codes = np.empty_like(blocks)
    for reach in REACHES:
        fitted, explained = _fitted(blocks, units * np.float32(reach), codes)
        better = explained > best
        np.copyto(best, explained, where=better)
        np.copyto(scales, fitted, where=better)
    # One more iteration from the best scale; neither half of it adds error (Lloyd 1982).
    return codes, *_fitted(blocks, inverse(scales), codes)


def _fitted(
    blocks: FloatArray, inverses: FloatArray, codes: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Rounds blocks to `codes` -8…7 with scale 1/inverse, in place.

    Returns the codes' least-squares scales and the squared norm they explain, both [rows, blocks].
    """
    np.multiply(blocks, inverses[..., None], out=codes)
    np.rint(codes, out=codes)
    np.clip(codes, -8, 7, out=codes)
    products = np.einsum("rbi,rbi->rb", blocks, codes)
    fitted = products * inverse(np.einsum("rbi,rbi->rb", codes, codes))
    return fitted, products * fitted


def _coded(units: FloatArray, factors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Codes of `units` [rows, blocks, block] for `factors` [rows, blocks]; their squared error."""
    codes = np.clip(np.rint(units * inverse(factors)[..., None]), -8, 7)
    return codes, np.square(codes * factors[..., None] - units).sum(-1)


def _blocks(values: FloatArray, block: int) -> FloatArray:
    rows, columns = values.shape
    padding = -columns % block
    padded = np.pad(values, ((0, 0), (0, padding))) if padding else values
    return padded.reshape(rows, -1, block)


def inverse(scales: FloatArray) -> FloatArray:
    """1 / scale, and 0 where a whole block is 0."""
    return np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)
