"""Overlapping crops of an image: how their patches become one grid again."""

from collections.abc import Iterable

import numpy as np

from export.arrays import FloatArray


def stitched(
    features: Iterable[FloatArray], rows: int, cols: int, side: int, margin: int
) -> FloatArray:
    """Patches [side^2, H] of each crop, then of the whole image -> the whole's | the crops'.

    Neighbouring crops share 2 `margin` patches. The crops' patches, stitched without the overlaps,
    are averaged to `side` x `side` (adaptive average pooling). Both steps are linear in rows and in
    columns separately, so each crop adds its part: down @ crop @ across. Result [side^2, 2 H]; only
    two grids are held at a time.
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
    raise ValueError(f"features of fewer than {rows} x {cols} crops and the whole image")


def _pooling_weights(count: int, side: int, margin: int) -> list[FloatArray]:
    """For each of `count` crops along an axis, the weights [pooled, patches of the crop].

    A pooled patch i is the mean of the stitched ones from floor(i n / side) to
    ceil((i + 1) n / side), n of them in all.
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
