"""Rounds named matrices to 4 bits: to nearest, by the best of several scales, or calibrated.

NOT aware of file formats or of how inputs were collected.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from export.arrays import FloatArray
from export.quantize import blocks, gptq
from export.quantize.recipe import Storage


class Curvature(Protocol):
    """What calibration found out about the inputs of linear maps."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """What they were collected from, for artifact.json."""

    def factor(self, name: str) -> FloatArray | None:
        """`gptq.compensation` of the inputs of `{name}.weight`; None where none were met."""


@dataclass(frozen=True)
class Rounding:
    """With a `curvature`, matrices whose inputs are known are compensated (export.quantize.gptq).

    `four_bits` and `four_bit_rows` take some rows of `{name}.weight`, [rows, columns], and give
    what their namesakes in export.quantize.blocks do.
    """

    curvature: Curvature | None = None

    def differs(self, name: str, storage: Storage) -> bool:
        """Whether `{name}.weight` would be rounded otherwise than to nearest."""
        return storage.method != "nearest" or self._known(name) is not None

    def four_bits(
        self, name: str, values: FloatArray, storage: Storage
    ) -> tuple[blocks.Codes, FloatArray]:
        factor = self._factor(name, values)
        if factor is not None:
            codes, scales = gptq.compensated(
                values, factor, storage.block, lambda part, _: blocks.block_scales(part)
            )
            whole = _whole_blocks(codes, storage.block)
            return (whole + np.int8(8)).astype(np.uint8), scales
        if storage.method == "nearest":
            return blocks.four_bits(values, storage.block)
        return blocks.four_bits_searched(values, storage.block)

    def four_bit_rows(
        self, name: str, values: FloatArray, storage: Storage
    ) -> tuple[NDArray[np.int8], NDArray[np.int8], FloatArray]:
        factor = self._factor(name, values)
        if factor is None:
            return blocks.four_bit_rows(values, storage.block)
        scales = blocks.row_scales(blocks.four_bits(values, storage.block)[1], 15)
        inverses = blocks.inverse(scales)[:, None]
        factors: list[NDArray[np.int8]] = []

        def scale_of(part: FloatArray, _: int) -> FloatArray:
            wanted = blocks.block_scales(part)[:, None] * inverses
            chosen = blocks.factored((part * inverses)[:, None], wanted)[1][:, 0]
            factors.append(chosen)
            return chosen * scales

        codes, _ = gptq.compensated(values, factor, storage.block, scale_of)
        return _whole_blocks(codes, storage.block), np.stack(factors, axis=1), scales

    def _known(self, name: str) -> FloatArray | None:
        return None if self.curvature is None else self.curvature.factor(name)

    def _factor(self, name: str, values: FloatArray) -> FloatArray | None:
        factor = self._known(name)
        # A writer may have changed a matrix (folded it, say): then its inputs are others.
        return factor if factor is not None and len(factor) == values.shape[1] else None


def _whole_blocks(codes: NDArray[np.int8], block: int) -> NDArray[np.int8]:
    rows, columns = codes.shape
    padded = np.pad(codes, ((0, 0), (0, -columns % block)))
    return padded.reshape(rows, -1, block)
