"""Rounds matrices of a model to 4 bits: to nearest, with searched scales, or with GPTQ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from export.arrays import FloatArray
from export.quantize import blocks, gptq
from export.quantize.recipe import Storage


class Hessians(Protocol):
    """Gives GPTQ the Hessians of a model's linear layers, from inputs collected in calibration."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """Describes the calibration data: JSON values with the keys of recipe.Calibration."""

    def inverse_cholesky(self, name: str) -> FloatArray | None:
        """Returns `gptq.inverse_cholesky` of the Hessian of `{name}.weight`: [columns, columns].

        None: calibration never used that matrix.
        """


@dataclass(frozen=True)
class Rounding:
    """Rounds matrices to 4 bits: with GPTQ if there is a Hessian, otherwise as Storage.method says.

    hessians: from calibration; None: GPTQ is never used. positive: `four_bits` gives no negative
    scales, for kernels that refuse them.
    """

    hessians: Hessians | None = None
    positive: bool = False

    def differs(self, name: str, storage: Storage) -> bool:
        """Whether `{name}.weight` is rounded otherwise than to nearest: by search or by GPTQ."""
        return storage.method != "nearest" or self._of(name) is not None

    def four_bits(
        self, name: str, values: FloatArray, storage: Storage
    ) -> tuple[blocks.Codes, FloatArray]:
        """Rounds some rows [rows, columns] of `{name}.weight` to 4 bits.

        Returns codes 0…15 [rows, blocks, block] and scales [rows, blocks], as blocks.four_bits.
        """
        factor = self._factor(name, values)
        if factor is not None:
            codes, scales = gptq.gptq_quantize(
                values,
                factor,
                storage.block,
                lambda part, _: blocks.block_scales(part, self.positive),
            )
            whole = _whole_blocks(codes, storage.block)
            return (whole + np.int8(8)).astype(np.uint8), scales
        if storage.method == "nearest":
            return blocks.four_bits(values, storage.block, self.positive)
        return blocks.four_bits_searched(values, storage.block, self.positive)

    def four_bit_rows(
        self, name: str, values: FloatArray, storage: Storage
    ) -> tuple[NDArray[np.int8], NDArray[np.int8], FloatArray]:
        """Rounds some rows [rows, columns] of `{name}.weight` as blocks.four_bit_rows does.

        Returns codes -8…7 [rows, blocks, block], integer factors [rows, blocks] and scales [rows].
        storage.method has no effect.
        """
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
        # A target may have transformed the matrix, so that it has another number of inputs.
        return factor if factor is not None and len(factor) == values.shape[1] else None


def _whole_blocks(codes: NDArray[np.int8], block: int) -> NDArray[np.int8]:
    rows, columns = codes.shape
    padded = np.pad(codes, ((0, 0), (0, -columns % block)))
    return padded.reshape(rows, -1, block)
