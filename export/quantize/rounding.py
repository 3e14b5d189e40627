"""Rounds named matrices to 4 bits: to nearest, with searched scales, or with GPTQ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from export.arrays import FloatArray
from export.quantize import blocks, gptq
from export.quantize.recipe import Storage


class Hessians(Protocol):
    """Hessians of a model's linear layers, from inputs that calibration has collected."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """The calibration data, for artifact.json."""

    def inverse_cholesky(self, name: str) -> FloatArray | None:
        """`gptq.inverse_cholesky` of the Hessian of `{name}.weight`; None if it had no inputs."""


@dataclass(frozen=True)
class Rounding:
    """How matrices are rounded to 4 bits: with GPTQ if there is a Hessian, else as Storage says.

    `four_bits` and `four_bit_rows` round some rows [rows, columns] of `{name}.weight` to what the
    functions of the same name in export.quantize.blocks return.
    """

    hessians: Hessians | None = None

    def differs(self, name: str, storage: Storage) -> bool:
        """Whether the result for `{name}.weight` differs from rounding to nearest."""
        return storage.method != "nearest" or self._of(name) is not None

    def four_bits(
        self, name: str, values: FloatArray, storage: Storage
    ) -> tuple[blocks.Codes, FloatArray]:
        """See export.quantize.blocks.four_bits."""
        factor = self._factor(name, values)
        if factor is not None:
            codes, scales = gptq.gptq_quantize(
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
        """See export.quantize.blocks.four_bit_rows."""
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

        codes, _ = gptq.gptq_quantize(values, factor, storage.block, scale_of)
        return _whole_blocks(codes, storage.block), np.stack(factors, axis=1), scales

    def _of(self, name: str) -> FloatArray | None:
        return None if self.hessians is None else self.hessians.inverse_cholesky(name)

    def _factor(self, name: str, values: FloatArray) -> FloatArray | None:
        factor = self._of(name)
        # A target may have transformed the matrix, which then has inputs of another size.
        return factor if factor is not None and len(factor) == values.shape[1] else None


def _whole_blocks(codes: NDArray[np.int8], block: int) -> NDArray[np.int8]:
    rows, columns = codes.shape
    padded = np.pad(codes, ((0, 0), (0, -columns % block)))
    return padded.reshape(rows, -1, block)
