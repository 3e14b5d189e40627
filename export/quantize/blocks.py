"""Rounds float32 matrices [rows, columns] to 4 or 8 bits, with a scale for each block or each row.

A block is `block` neighbouring values of a row; columns are padded with zeros to whole blocks.
"""

import numpy as np
from numpy.typing import NDArray

from export.arrays import FloatArray

Codes = NDArray[np.uint8]

# The scales that are tried: each maps a block's largest magnitude to one of these numbers. Codes
# are -8 … 7, so values beyond them are clipped.
REACHES = (7.2, 8.0, 8.6)


def four_bits(values: FloatArray, block: int, positive: bool = False) -> tuple[Codes, FloatArray]:
    """Rounds to 4 bits: returns codes 0…15 [rows, blocks, block] and scales [rows, blocks].

    A value is about (code - 8) * scale. A block's value of largest magnitude maps to code 0
    exactly, so a scale may be negative (ggml's Q4_0, ggml-quants.c quantize_row_q4_0_ref, with
    float32 scales). positive: no scale is negative; a block has the smallest that clips no value.
    """
    blocks = _blocks(values, block)
    if positive:
        least, most = blocks.min(-1, keepdims=True), blocks.max(-1, keepdims=True)
        scales = np.maximum(least / np.float32(-8), most / np.float32(7))
    else:
        largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
        scales = largest / np.float32(-8)
    blocks = blocks * inverse(scales)
    blocks += np.float32(8.5)
    return np.clip(blocks, 0, 15, out=blocks).astype(np.uint8), scales[..., 0]


def four_bits_searched(
    values: FloatArray, block: int, positive: bool = False
) -> tuple[Codes, FloatArray]:
    """Rounds to 4 bits as `four_bits` does, but tries several scales for each block.

    Each of `REACHES` gives a scale, and that scale gives codes; the least-squares scale of these
    codes replaces it (as in ggml-quants.c make_qx_quants). The best result is improved once more.
    The final scale preserves the block's inner product with itself, because least squares
    shortens every block a little, and errors in one direction add up where others cancel (Vargaftik
    et al. 2021, DRIVE, arXiv 2105.08339, has this scale for one bit). On normally distributed
    values, the squared error is 10 % below that of `four_bits`. positive: no scale is negative,
    which raises the squared error by 13 %.
    """
    blocks = _blocks(values, block)
    codes, scales, explained = _searched(blocks, positive)
    scales *= np.einsum("rbi,rbi->rb", blocks, blocks) * inverse(explained)
    codes += np.float32(8)
    return codes.astype(np.uint8), scales


def block_scales(values: FloatArray, positive: bool = False) -> FloatArray:
    """Returns the 4-bit scale of each row [rows] that the search of `four_bits_searched` finds.

    Each whole row of `values` is one block; the scale is the least-squares one.
    """
    return _searched(values[:, None], positive)[1][:, 0]


def eight_bits(values: FloatArray, block: int) -> tuple[Codes, FloatArray]:
    """Rounds to 8 bits: returns codes 1…255 [rows, blocks, block] and scales [rows, blocks].

    A value is about (code - 128) * scale, with scale = max |value| / 127 of its block (ggml's Q8_0
    with float32 scales).
    """
    blocks = _blocks(values, block)
    scales = np.abs(blocks).max(-1, keepdims=True) / np.float32(127)
    blocks = np.rint(blocks * inverse(scales))
    blocks += np.float32(128)
    return blocks.astype(np.uint8), scales[..., 0]


def row_factors(scales: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """Rounds block scales [rows, blocks] to integers times one scale for each row.

    Returns the integers -127…127 [rows, blocks] and the rows' scales [rows, 1].
    """
    rows = row_scales(scales, 127)[:, None]
    return np.rint(scales * inverse(rows)).astype(np.int8), rows


def eight_bit_factors(values: FloatArray, block: int) -> tuple[Codes, NDArray[np.int8], FloatArray]:
    """Rounds to 8 bits, with the scale of a block as an integer times its row's scale.

    Returns codes 1…255 [rows, blocks, block], factors 0…127 [rows, blocks] and scales [rows, 1]; a
    value is about (code - 128) * factor * scale. A factor is the smallest that clips no value.
    """
    blocks = _blocks(values, block)
    ideal = np.abs(blocks).max(-1) / np.float32(127)
    scales = row_scales(ideal, 127)[:, None]
    factors = np.minimum(np.ceil(ideal * inverse(scales)), np.float32(127))
    codes = np.rint(blocks * inverse(factors * scales)[..., None])
    codes += np.float32(128)
    return codes.astype(np.uint8), factors.astype(np.int8), scales


def eight_bit_rows(values: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """Rounds to 8 bits with one scale for each row; a value is about code * scale.

    Returns codes -127…127 [rows, columns] and scales [rows].
    """
    scales = np.abs(values).max(-1, keepdims=True) / np.float32(127)
    return np.rint(values * inverse(scales)).astype(np.int8), scales[:, 0]


def four_bit_rows(
    values: FloatArray, block: int
) -> tuple[NDArray[np.int8], NDArray[np.int8], FloatArray]:
    """Rounds to 4-bit codes that an integer for each block turns into 8-bit codes of its row.

    Returns codes -8…7 [rows, blocks, block], factors -15…15 [rows, blocks] and scales [rows]; a
    value is about code * factor * scale, and code * factor fits an int8. A factor is one of the two
    integers around the block's ideal scale / the row's scale: the one with the smaller squared
    error.
    """
    _, ideal = four_bits(values, block)
    scales = row_scales(ideal, 15)
    inverses = inverse(scales)
    units = _blocks(values, block) * inverses[:, None, None]
    codes, factors = factored(units, ideal * inverses[:, None])
    return codes, factors, scales


def row_scales(ideal: FloatArray, most: int) -> FloatArray:
    """Returns each row's scale [rows]: its largest |block scale| of `ideal` divided by `most`.

    `ideal` [rows, blocks] are the blocks' scales. Divided by the row's scale, none exceeds `most`.
    """
    return np.abs(ideal).max(-1) / np.float32(most)  # type: ignore[no-any-return]


def factored(units: FloatArray, wanted: FloatArray) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Rounds values to codes -8…7 and block scales to integer factors -15…15; returns both.

    `units` [rows, blocks, block] are the values, and `wanted` [rows, blocks] the block scales, both
    divided by their row's scale. Of the two integers around a wanted scale, the one with the
    smaller squared error is taken; a factor is 0 only where `wanted` is 0.
    """
    lower = np.sign(wanted) * np.clip(np.floor(np.abs(wanted)), 1, 15)
    upper = np.sign(wanted) * np.clip(np.ceil(np.abs(wanted)), 1, 15)
    (codes, error), (other, other_error) = (_coded(units, f) for f in (lower, upper))
    better = other_error < error
    factors = np.where(better, upper, lower).astype(np.int8)
    return np.where(better[..., None], other, codes).astype(np.int8), factors


def pairs(codes: Codes) -> Codes:
    """Packs neighbouring 4-bit codes of the last axis into one byte, the first in the low half."""
    return codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4))


def _searched(
    blocks: FloatArray, positive: bool = False
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Searches the best 4-bit scale of each block of `blocks` [rows, blocks, block].

    Returns codes -8…7, as floats in that shape, and the two results of `_fitted` for them.
    """
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)[..., 0]
    units = -inverse(largest)
    if positive:  # a largest value above 0 has code 7 where one below has -8
        np.multiply(units, np.float32(-7 / 8), out=units, where=largest > 0)
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
    """Rounds blocks to codes -8…7 with the scales 1 / `inverses`, and writes them into `codes`.

    Returns, for each block, the least-squares scale for these codes and how much of the block's
    squared norm code * scale explains: both [rows, blocks].
    """
    np.multiply(blocks, inverses[..., None], out=codes)
    np.rint(codes, out=codes)
    np.clip(codes, -8, 7, out=codes)
    products = np.einsum("rbi,rbi->rb", blocks, codes)
    fitted = products * inverse(np.einsum("rbi,rbi->rb", codes, codes))
    return fitted, products * fitted


def _coded(units: FloatArray, factors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Rounds `units` [rows, blocks, block] / `factors` [rows, blocks] to codes -8…7.

    Returns the codes as floats and the squared error of each block [rows, blocks].
    """
    codes = np.clip(np.rint(units * inverse(factors)[..., None]), -8, 7)
    return codes, np.square(codes * factors[..., None] - units).sum(-1)


def _blocks(values: FloatArray, block: int) -> FloatArray:
    rows, columns = values.shape
    padding = -columns % block
    padded = np.pad(values, ((0, 0), (0, padding))) if padding else values
    return padded.reshape(rows, -1, block)


def inverse(scales: FloatArray) -> FloatArray:
    """Returns 1 / scale, and 0 where a scale is 0 because its block has only zeros."""
    return np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)
