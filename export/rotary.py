"""Rotary position tables in float32, the same numbers for every interpreter."""

import numpy as np

from export.families.spec import Decoder
from export.weights import FloatArray


def rotary_tables(text: Decoder, positions: int) -> tuple[FloatArray, FloatArray]:
    """Cosines and sines [positions, head_dim / 2] of position / theta^(2 i / head_dim).

    RoFormer (Su et al. 2021), eq. 15; computed in float32 as transformers does.
    """
    exponent = np.arange(0, text.head_dim, 2, dtype=np.float32) / np.float32(text.head_dim)
    frequency = np.float32(1) / np.float32(text.rope_theta) ** exponent
    angle = np.arange(positions, dtype=np.float32)[:, None] * frequency
    return np.cos(angle), np.sin(angle)
