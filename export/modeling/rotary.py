"""Rotary position tables in float32: the same numbers for every interpreter."""

from dataclasses import dataclass

import numpy as np

from export.arrays import FloatArray, IntArray

STORED_POSITIONS = 1 << 15
"""Most positions whose tables an artifact holds: more than fit into a small machine's cache."""


@dataclass(frozen=True)
class Rope:
    """Pair i of a head's first `dims` values rotates by position / factor * theta^(-2 i / dims)."""

    theta: float
    dims: int
    factor: float = 1.0


def patch_rope(head_dim: int) -> Rope:
    """Rotation of a tower's patches (Qwen2-VL report, 2024): half a head by row, half by column."""
    return Rope(1e4, head_dim // 2)


def by_axes(table: FloatArray, positions: IntArray, sections: tuple[int, ...]) -> FloatArray:
    """Rows of a table [positions, pairs]; each section of the pairs takes its own axis' position.

    `positions` [axes, n] and `sections`, pairs of each axis, give [n, pairs] (Qwen2-VL's M-RoPE).
    """
    ends = np.cumsum(sections)
    parts = [
        table[rows, end - count : end]
        for rows, count, end in zip(positions, sections, ends, strict=True)
    ]
    return np.concatenate(parts, axis=-1)


def rotary_tables(rope: Rope, positions: int) -> tuple[FloatArray, FloatArray]:
    """Cosines and sines [positions, dims / 2] of position / factor / theta^(2 i / dims).

    RoFormer (Su et al. 2021), eq. 15; computed in float32 and in the order of transformers.
    """
    angle = np.arange(positions, dtype=np.float32)[:, None] * frequencies(rope)
    return np.cos(angle), np.sin(angle)


def full_tables(cos: FloatArray, sin: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Tables [n, dims / 2] -> factors [n, dims] of a head's values and of their partners.

    A value's partner lies dims / 2 further on; rotated = x * cos + partner * sin, so the sines of
    the first half are negative.
    """
    return np.concatenate([cos, cos], axis=-1), np.concatenate([-sin, sin], axis=-1)


def frequencies(rope: Rope) -> FloatArray:
    """Angle by which each pair rotates from one position to the next: [dims / 2]."""
    exponent = np.arange(0, rope.dims, 2, dtype=np.float32) / np.float32(rope.dims)
    return np.float32(1) / np.float32(rope.theta) ** exponent / np.float32(rope.factor)
