"""Rounding a matrix so that its products with real inputs change least, not its values.

GPTQ (Frantar et al. 2022, arXiv 2210.17323): columns are rounded one after the other, and the error
of each is made up for by the columns that are not rounded yet. NOT aware of tensors' names, file
formats or where the inputs come from.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from export.arrays import FloatArray

DAMPING = 0.01
"""Of the curvature's mean diagonal, added to it: the paper's choice, for inputs that never vary."""
LOWEST, HIGHEST = -8, 7

ScaleOf = Callable[[FloatArray, int], FloatArray]
"""(values [rows, block], number of the block) -> its scales [rows]; 0 for a block of zeros."""


def compensation(curvature: FloatArray) -> FloatArray:
    """What `compensated` needs of sums of x xT [columns, columns]: the Cholesky factor, upper, of
    the damped inverse. Inputs that were always 0 count as the damping alone."""
    from scipy.linalg import lapack

    damped = np.array(curvature, np.float32, order="F")
    mean = float(np.trace(damped)) / len(damped)
    damped[np.diag_indices_from(damped)] += DAMPING * mean if mean > 0 else 1.0
    lower, failed = lapack.spotrf(damped, lower=True, overwrite_a=True)
    inverse, failed_too = lapack.spotri(lower, lower=True, overwrite_c=True)
    # LAPACK reads one triangle; of the inverse the lower one is filled.
    upper, failed_at_last = lapack.spotrf(inverse.T, lower=False, overwrite_a=False)
    if failed or failed_too or failed_at_last:
        raise ValueError("the sums of inputs are not positive definite")
    return np.triu(upper)


def compensated(
    values: FloatArray, factor: FloatArray, block: int, scale_of: ScaleOf
) -> tuple[NDArray[np.int8], FloatArray]:
    """Codes -8…7 [rows, columns] and scales [rows, blocks] of values [rows, columns].

    `factor` is the `compensation` of the inputs; a scale is asked for when its block's turn comes,
    of the values as the columns before have left them.
    """
    rest = np.array(values, np.float32)
    rows, columns = rest.shape
    codes = np.empty((rows, columns), np.int8)
    scales = np.empty((rows, -(-columns // block)), np.float32)
    for number, start in enumerate(range(0, columns, block)):
        stop = min(start + block, columns)
        part, own = rest[:, start:stop], factor[start:stop, start:stop]
        scales[:, number] = scale_of(part, number)
        inverse = np.divide(
            1, scales[:, number], out=np.zeros(rows, np.float32), where=scales[:, number] != 0
        )
        errors = np.empty_like(part)
        for i in range(stop - start):
            column = part[:, i]
            code = np.clip(np.rint(column * inverse), LOWEST, HIGHEST)
            codes[:, start + i] = code
            errors[:, i] = (column - code * scales[:, number]) / own[i, i]
            part[:, i + 1 :] -= errors[:, i, None] * own[i, i + 1 :]
        rest[:, stop:] -= errors @ factor[start:stop, stop:]
    return codes, scales
