"""Computes rotary position tables in float32, the same for torch, for ONNX and on every machine."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from export.arrays import FloatArray, IntArray

STORED_POSITIONS = 1 << 15
"""Most positions whose tables an artifact holds: more than fit into a small machine's cache."""

ROWS = 1024
"""Positions whose tables are computed at once."""
QUARTER = (1.57079632673412561417, 6.07710050650619224932e-11)
"""The first 33 bits of a quarter turn, pi / 2, and the rest (fdlibm, e_rem_pio2.c)."""
TERMS = 8
"""Index of the last term of the series; up to pi / 4, the next is below 1e-16."""


@dataclass(frozen=True)
class Rope:
    """Settings of rotary position embeddings: only a head's first `dims` values are rotated.

    Pair i of them rotates by the angle position / factor * theta^(-2 i / dims).
    """

    theta: float
    dims: int
    factor: float = 1.0


def patch_rope(head_dim: int) -> Rope:
    """Returns the rotary settings of image patches for one axis, row or column.

    Half of a head's values rotate by the row, half by the column (Qwen2-VL report, 2024).
    """
    return Rope(1e4, head_dim // 2)


def by_axes(table: FloatArray, positions: IntArray, sections: tuple[int, ...]) -> FloatArray:
    """Looks up a rotary table [positions, pairs] for n positions with several axes: [n, pairs].

    The pairs are split by `sections`, one number of pairs for each axis; each section is looked up
    at that axis' positions in `positions` [axes, n] (M-RoPE of Qwen2-VL).
    """
    ends = np.cumsum(sections)
    parts = [
        table[rows, end - count : end]
        for rows, count, end in zip(positions, sections, ends, strict=True)
    ]
    return np.concatenate(parts, axis=-1)


def rotary_tables(rope: Rope, positions: int) -> tuple[FloatArray, FloatArray]:
    """Returns cosines and sines [positions, dims / 2] of the rotation angles of all positions.

    The angle is position / factor / theta^(2 i / dims) (RoFormer, Su et al. 2021, eq. 15), computed
    in float32 and in the order of transformers.
    """
    parts = [_rows(rope, start) for start in range(0, positions, ROWS)]
    cos, sin = (np.concatenate(tables)[:positions] for tables in zip(*parts, strict=True))
    return cos, sin


@lru_cache(maxsize=16)  # a decode step of the reference needs the tables again
def _rows(rope: Rope, start: int) -> tuple[FloatArray, FloatArray]:
    """Returns ROWS rows of the tables, from the position `start` on."""
    rows = np.arange(start, start + ROWS, dtype=np.float32)[:, None]
    return _cos_sin(rows * frequencies(rope))


def full_tables(cos: FloatArray, sin: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Extends tables [n, dims / 2] to all values of a head: [n, dims].

    A value's partner lies dims / 2 further on (modulo dims); rotated = x * cos + partner * sin, so
    the sines of the first half are negated.
    """
    return np.concatenate([cos, cos], axis=-1), np.concatenate([-sin, sin], axis=-1)


def frequencies(rope: Rope) -> FloatArray:
    """Returns the angle in radians by which each pair rotates per position: [dims / 2]."""
    exponents = np.arange(0, rope.dims, 2, dtype=np.float32) / np.float32(rope.dims)
    # Not numpy's power: its last bit depends on the CPU.
    powers = [math.pow(np.float32(rope.theta), exponent) for exponent in exponents]
    return np.float32(1) / np.array(powers, np.float32) / np.float32(rope.factor)


def _cos_sin(angle: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns cosines and sines of float32 angles from 0 to 2^20, rounded to float32.

    The last bit of numpy's depends on the CPU. Here quarters of a turn are subtracted in two parts
    (Cody and Waite 1980) and Taylor's series are summed, in float64, by operations whose results
    IEEE 754 defines. Their error is below 1e-15.
    """
    wide = angle.astype(np.float64)
    quarters = np.rint(wide * (2 / math.pi))
    wide = wide - quarters * QUARTER[0] - quarters * QUARTER[1]
    square, turned = wide * wide, quarters.astype(np.int64)
    cos, sin = (np.zeros_like(wide) for _ in range(2))
    for n in range(TERMS, -1, -1):
        cos = cos * square + (-1) ** n / math.factorial(2 * n)
        sin = sin * square + (-1) ** n / math.factorial(2 * n + 1)
    sin *= wide
    odd = turned % 2 == 1
    cos, sin = np.where(odd, sin, cos), np.where(odd, cos, sin)
    cos *= np.where((turned + 1) % 4 < 2, 1.0, -1.0)
    sin *= np.where(turned % 4 < 2, 1.0, -1.0)
    return cos.astype(np.float32), sin.astype(np.float32)
