"""Stitches the patch features of overlapping crops together to one grid."""

from collections.abc import Iterable

import numpy as np

from export.arrays import FloatArray


def stitched(
    features: Iterable[FloatArray], rows: int, cols: int, side: int, margin: int
) -> FloatArray:
    """Patch features of the whole image next to those of its crops: [side^2, 2 H].

    `features` [side^2, H] come crop by crop, row by row, then for the whole image. Neighbouring
    crops share 2 `margin` patches. The crops are stitched to one grid without the overlaps, which
    adaptive average pooling reduces to `side` x `side`. Both steps are linear in rows and in
    columns, so each crop adds down @ crop @ across, and only two grids are in memory at a time.
    """
    down, across = (_pooling_weights(count, side, margin) for count in (rows, cols))
    pooled: FloatArray | None = None
    for n, crop in enumerate(features):
        if n == rows * cols or rows * cols == 1:
            local = crop if pooled is None else pooled.reshape(crop.shape)
            return np.concatenate([crop, local], axis=-1)
        grid = crop.reshape(side, side, -1)
        part = np.einsum("ip,pqh->iqh", down[n // cols], grid, optimize=True)
        part = np.einsum("jq,iqh->ijh", across[n % cols], part, optimize=True)
        pooled = part if pooled is None else pooled + part
    raise ValueError(f"expected features of {rows} x {cols} crops and of the whole image")


def _pooling_weights(count: int, side: int, margin: int) -> list[FloatArray]:
    """Weights [pooled patches, patches of the crop] of each of `count` crops along one axis.

    Pooled patch i is the mean of the stitched patches from floor(i n / side) to
    ceil((i + 1) n / side), where n is the number of stitched patches.
    """
    step = side - 2 * margin
    total = step * count + 2 * margin
    pooled = np.arange(side)
    first, last = pooled * total // side, -(-(pooled + 1) * total // side)
    weights = []
    for n in range(count):
        patch = np.arange(side)
        kept = ((patch >= margin) | (n == 0)) & ((patch < side - margin) | (n == count - 1))
        index = n * step + patch
        within = (index >= first[:, None]) & (index < last[:, None]) & kept
        weights.append((within / (last - first)[:, None]).astype(np.float32))
    return weights
