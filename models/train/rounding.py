"""Weights rounded to nearest at few bits, without any file format: what a scheme alone costs.

A block of neighbouring values of a row shares one scale; the value of largest magnitude becomes
the lowest code, as in Q4_0. NOT aware of models' families or of what is done with the weights.
"""

from dataclasses import dataclass

import numpy as np

from export.arrays import FloatArray
from export.weights import Weights, Wrapper

BLOCK = 32
# What the recipes keep too: read once an image, or not read by a matrix product.
KEPT = ("v.patch_embd.", "v.position_embd.", "token_embd.", "region.")


@dataclass(frozen=True)
class Rounded(Wrapper):
    """export.weights.Weights whose matrices have `bits` a value."""

    weights: Weights
    bits: int

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        """As Weights.read."""
        values = self.weights.read(name, start, stop)
        is_kept = values.ndim != 2 or name.startswith(KEPT)
        return values if is_kept else rounded(values, self.bits)


def rounded(values: FloatArray, bits: int) -> FloatArray:
    """(rows, columns) with the nearest values that codes of `bits` reach."""
    rows, columns = values.shape
    padded = np.pad(values, ((0, 0), (0, -columns % BLOCK))).reshape(rows, -1, BLOCK)
    largest = np.take_along_axis(padded, np.abs(padded).argmax(-1, keepdims=True), -1)
    scale = largest / -(2 ** (bits - 1))
    units = np.divide(padded, scale, out=np.zeros_like(padded), where=scale != 0)
    codes = np.clip(np.round(units), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    whole: FloatArray = (codes * scale).reshape(rows, -1)[:, :columns].astype(np.float32)
    return np.ascontiguousarray(whole)
