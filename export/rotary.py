"""Rotary position tables in float32, the same numbers for every interpreter."""

import numpy as np

from export.families.spec import Rope
from export.weights import FloatArray

STORED_POSITIONS = 1 << 15
"""Most positions whose tables an artifact holds: more than fit into a small machine's cache."""


def rotary_tables(rope: Rope, positions: int) -> tuple[FloatArray, FloatArray]:
    """Cosines and sines [positions, dims / 2] of position / factor / theta^(2 i / dims).

    RoFormer (Su et al. 2021), eq. 15; computed in float32 and in the order of transformers.
    """
    exponent = np.arange(0, rope.dims, 2, dtype=np.float32) / np.float32(rope.dims)
    frequency = np.float32(1) / np.float32(rope.theta) ** exponent / np.float32(rope.factor)
    angle = np.arange(positions, dtype=np.float32)[:, None] * frequency
    return np.cos(angle), np.sin(angle)
