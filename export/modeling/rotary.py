"""Computes rotary position tables in float32, the same for torch and for ONNX."""

from dataclasses import dataclass

import numpy as np

from export.arrays import FloatArray, IntArray

STORED_POSITIONS = 1 << 15
"""Most positions whose tables an artifact holds: more than fit into a small machine's cache."""


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
    angle = np.arange(positions, dtype=np.float32)[:, None] * frequencies(rope)
    return np.cos(angle), np.sin(angle)


def full_tables(cos: FloatArray, sin: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Extends tables [n, dims / 2] to all values of a head: [n, dims].

    A value's partner lies dims / 2 further on (modulo dims); rotated = x * cos + partner * sin, so
    the sines of the first half are negated.
    """
    return np.concatenate([cos, cos], axis=-1), np.concatenate([-sin, sin], axis=-1)


def frequencies(rope: Rope) -> FloatArray:
    """Returns the angle in radians by which each pair rotates per position: [dims / 2]."""
    exponent = np.arange(0, rope.dims, 2, dtype=np.float32) / np.float32(rope.dims)
    return np.float32(1) / np.float32(rope.theta) ** exponent / np.float32(rope.factor)
