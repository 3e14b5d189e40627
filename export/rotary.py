"""Rotary position tables in float32, the same numbers for every interpreter."""

import numpy as np
from numpy.typing import NDArray

from export.families.geometry import Rope
from export.weights import FloatArray

IntArray = NDArray[np.int64]

STORED_POSITIONS = 1 << 15
"""Most positions whose tables an artifact holds: more than fit into a small machine's cache."""


def patch_rope(head_dim: int) -> Rope:
    """How a tower's patches turn (Qwen2-VL report, 2024): half a head by row, half by column."""
    return Rope(1e4, head_dim // 2)


def by_axes(table: FloatArray, positions: IntArray, sections: tuple[int, ...]) -> FloatArray:
    """Rows of a table [positions, pairs], each section of the pairs by an axis of its own.

    `positions` [axes, n] and `sections`, pairs of each axis, give [n, pairs] (Qwen2-VL's M-RoPE).
    """
    ends = np.cumsum(sections)
    parts = [
        table[places, end - count : end]
        for places, count, end in zip(positions, sections, ends, strict=True)
    ]
    return np.concatenate(parts, axis=-1)


def rotary_tables(rope: Rope, positions: int) -> tuple[FloatArray, FloatArray]:
    """Cosines and sines [positions, dims / 2] of position / factor / theta^(2 i / dims).

    RoFormer (Su et al. 2021), eq. 15; computed in float32 and in the order of transformers.
    """
    angle = np.arange(positions, dtype=np.float32)[:, None] * frequencies(rope)
    return np.cos(angle), np.sin(angle)


def of_both_halves(cos: FloatArray, sin: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Tables [n, dims / 2] as factors [n, dims] of a head's values and of their partners, which
    lie half of the dims further on: x cos + partner sin, the sines of the first half negative."""
    return np.concatenate([cos, cos], axis=-1), np.concatenate([-sin, sin], axis=-1)


def frequencies(rope: Rope) -> FloatArray:
    """Angle that each pair turns by from one position to the next: [dims / 2]."""
    exponent = np.arange(0, rope.dims, 2, dtype=np.float32) / np.float32(rope.dims)
    return np.float32(1) / np.float32(rope.theta) ** exponent / np.float32(rope.factor)
