"""Packs rows of a weight, and refuses values that the packed type's floats cannot hold."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.arrays import FloatArray
from export.errors import UserError

EXPONENT = np.uint16(0x7C00)
Pack = Callable[[FloatArray], Sequence[NDArray[Any]]]
"""Turns rows of a weight into arrays of codes, of scales, or of the values in another type."""


def packed(name: str, rows: FloatArray, pack: Pack) -> Sequence[NDArray[Any]]:
    """Returns `pack(rows)`, whose floats, values or scales of blocks, are all finite.

    Float16 ends at 65504, and checkpoints in bfloat16 or float32 may have more. Raises a UserError
    that names the weight `name` if a value or the scale that it needs is out of range.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        arrays = pack(rows)
    for array in arrays:
        if array.dtype.kind == "f" and not _finite(array):
            raise _overflow(name, rows, array)
    return arrays


def _finite(values: NDArray[Any]) -> bool:
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    # All bits of the exponent are 1 in infinities and NaN; on integers this is ten times as fast.
    return bool(((values.view(np.uint16) & EXPONENT) != EXPONENT).all())


def _overflow(name: str, rows: FloatArray, array: NDArray[Any]) -> UserError:
    value, limit = np.abs(rows).max(), float(np.finfo(array.dtype).max)
    whole = array.size == rows.size
    what = "does not fit" if whole else "needs a block's scale that does not fit"
    remedy = "" if whole and array.dtype == rows.dtype else ", or export with --recipe fp32"
    return UserError(
        f"{name}: a value of magnitude {value} {what} {array.dtype} (at most {limit:.6g}); "
        f"check the checkpoint{remedy}"
    )
