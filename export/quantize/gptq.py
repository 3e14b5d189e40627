"""Implements GPTQ, which rounds a matrix so that its products with given inputs change least.

Frantar et al. 2022, arXiv 2210.17323: columns are rounded one after the other, and the columns that
are not rounded yet are changed to compensate for each column's error.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from export.arrays import FloatArray

DAMPING = 0.01
"""Added to the Hessian's diagonal, as a fraction of the diagonal's mean: the value of the paper. It
makes the Hessian invertible where inputs are always 0 or depend on each other."""
LOWEST, HIGHEST = -8, 7

ScaleOf = Callable[[FloatArray, int], FloatArray]
"""Takes values [rows, block] and the block's index; returns scales [rows], 0 for rows of zeros."""


def inverse_cholesky(hessian: FloatArray) -> FloatArray:
    """Returns the upper Cholesky factor [columns, columns] of the inverse of the damped Hessian.

    `hessian` [columns, columns] is the sum of x xT over the matrix's inputs x; DAMPING is added to
    its diagonal, and a Hessian of zeros becomes the identity. Raises ValueError if the damped
    Hessian is not positive definite.
    """
    from scipy.linalg import lapack

    damped = np.array(hessian, np.float32, order="F")
    mean = float(np.trace(damped)) / len(damped)
    damped[np.diag_indices_from(damped)] += DAMPING * mean if mean > 0 else 1.0
    lower, first_status = lapack.spotrf(damped, lower=True, overwrite_a=True)
    inverse, second_status = lapack.spotri(lower, lower=True, overwrite_c=True)
    # LAPACK has filled the lower triangle of the inverse, the upper one of its transpose.
    upper, third_status = lapack.spotrf(inverse.T, lower=False, overwrite_a=False)
    if first_status or second_status or third_status:
        raise ValueError("the damped Hessian of the inputs is not positive definite")
    return np.triu(upper)


def gptq_quantize(
    values: FloatArray, factor: FloatArray, block: int, scale_of: ScaleOf
) -> tuple[NDArray[np.int8], FloatArray]:
    """Rounds values [rows, columns] to 4 bits with GPTQ; a value is about code * scale.

    Returns codes -8…7 [rows, columns] and scales [rows, blocks] of `block` columns each. `factor`:
    `inverse_cholesky` of the Hessian of the matrix's inputs. `scale_of` chooses the scales: it is
    called once for each block, from left to right, with the block's values after compensation for
    the errors of all earlier blocks.
    """
    rest = np.array(values, np.float32)
    rows, columns = rest.shape
    codes = np.empty((rows, columns), np.int8)
    scales = np.empty((rows, -(-columns // block)), np.float32)
    for number, start in enumerate(range(0, columns, block)):
        stop = min(start + block, columns)
        part, diagonal = rest[:, start:stop], factor[start:stop, start:stop]
        scales[:, number] = scale_of(part, number)
        inverse = np.divide(
            1, scales[:, number], out=np.zeros(rows, np.float32), where=scales[:, number] != 0
        )
        errors = np.empty_like(part)
        for i in range(stop - start):
            column = part[:, i]
            code = np.clip(np.rint(column * inverse), LOWEST, HIGHEST)
            codes[:, start + i] = code
            errors[:, i] = (column - code * scales[:, number]) / diagonal[i, i]
            part[:, i + 1 :] -= errors[:, i, None] * diagonal[i, i + 1 :]
        rest[:, stop:] -= errors @ factor[start:stop, stop:]
    return codes, scales
