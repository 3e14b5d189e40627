"""Simulates quantization: gives weights, still as floats, the values that rounding leaves them."""

from fnmatch import fnmatchcase

import numpy as np

from export.arrays import FloatArray
from export.quantize import blocks, finite
from export.quantize.recipe import Recipe, Storage
from export.quantize.rounding import Rounding
from export.weights import Weights, Wrapper


class Rounded(Wrapper):
    """Weights in which tensors whose name matches `pattern` are rounded as `recipe` says.

    They stay float32; only their values are those that the recipe's bits can hold. Other tensors
    are unchanged. `rounding` does the rounding to 4 bits.
    """

    def __init__(
        self,
        weights: Weights,
        recipe: Recipe,
        pattern: str = "*",
        rounding: Rounding = Rounding(),  # noqa: B008  (frozen)
    ) -> None:
        super().__init__(weights)
        self._recipe = recipe
        self._pattern = pattern
        self._rounding = rounding

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        """Reads rows [start, stop) of a tensor as float32, after rounding (Weights.read)."""
        values = self.weights.read(name, start, stop)
        if not fnmatchcase(name, self._pattern):
            return values
        return rounded(
            name, values, self._recipe.storage(name, self.shapes()[name]), self._rounding
        )


def rounded(name: str, values: FloatArray, storage: Storage, rounding: Rounding) -> FloatArray:
    """Rounds rows of the tensor `name` to `storage` and returns them as float32, same shape."""
    if not storage.quantized:
        if storage.bits == 32:
            return values
        (halves,) = finite.packed(name, values, lambda values: [values.astype(np.float16)])
        return halves.astype(np.float32)
    rows = values.reshape(len(values), -1)
    if storage.bits == 4:
        codes, scales = rounding.four_bits(name.removesuffix(".weight"), rows, storage)
    else:
        codes, scales = blocks.eight_bits(rows, storage.block)
    zero = np.float32(1 << storage.bits - 1)
    whole = ((codes - zero) * scales[..., None]).reshape(len(rows), -1)
    return np.ascontiguousarray(whole[:, : rows.shape[1]]).reshape(values.shape)
