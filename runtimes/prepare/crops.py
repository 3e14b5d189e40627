"""Joins the patch features of an image's overlapping crops to those of the whole image."""

from collections.abc import Iterable

import numpy as np

from export.arrays import FloatArray


def stitched(
    features: Iterable[FloatArray], rows: int, cols: int, side: int, margin: int
) -> FloatArray:
    """Joins the features of an image's overlapping crops, and puts them next to the whole image's.

    The result [side^2, 2 H] has for each patch H features of the whole image, then H of the crops.
    `features` yields [side^2, H] for each of `rows` x `cols` crops, row by row, then for the whole
    image; a single crop is the whole image and comes once. Neighbouring crops overlap by 2 `margin`
    patches: the overlaps are cut off, and the joined grid is reduced to `side` x `side` by adaptive
    average pooling. Raises ValueError if there are too few features.
    """
    # Joining and pooling are linear in rows and in columns, so each crop adds down @ crop @ across,
    # and only two grids are in memory at a time.
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
    """Returns the pooling matrix of each of `count` crops along one axis.

    Each is [pooled patches, patches of the crop]. Pooled patch i is the mean of the stitched
    patches from floor(i n / side) to ceil((i + 1) n / side), where n is the number of stitched
    patches.
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
