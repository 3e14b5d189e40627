"""Rotary position tables in float32, the same numbers for every interpreter."""

import numpy as np
from numpy.typing import NDArray

from export.families.spec import Rope
from export.weights import FloatArray

IntArray = NDArray[np.int64]

STORED_POSITIONS = 1 << 15
"""Most positions whose tables an artifact holds: more than fit into a small machine's cache."""


PATCH_ROPE = Rope(1e4)
"""How a tower's patches turn (Qwen2-VL report, 2024): by row and by column, half the pairs each."""


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


def rotary_tables(rope: Rope, head_dim: int, positions: int) -> tuple[FloatArray, FloatArray]:
    """Cosines and sines [positions, head_dim / 2] of position / factor / theta^(2 i / head_dim).

    RoFormer (Su et al. 2021), eq. 15; computed in float32 and in the order of transformers.
    """
    angle = np.arange(positions, dtype=np.float32)[:, None] * frequencies(rope, head_dim)
    return np.cos(angle), np.sin(angle)


def frequencies(rope: Rope, head_dim: int) -> FloatArray:
    """Angle that each pair of a head turns by from one position to the next: [head_dim / 2]."""
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    return np.float32(1) / np.float32(rope.theta) ** exponent / np.float32(rope.factor)
