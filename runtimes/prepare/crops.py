"""Overlapping crops: how an image is cut into them, and how their patches become one grid again.

NOT aware of what a patch's features are, nor of normalisation.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.families.geometry import Overlap
from export.families.inputs import Crops
from runtimes.base import FloatArray
from runtimes.prepare.resize import Size, resize


def tiling(size: Size, recipe: Crops) -> tuple[int, int]:
    """Rows and columns of crops for an image of this size.

    `select_tiling` of moondream/torch/image_crops.py, which lets images over about twelve times as
    long as wide have more than `max_crops`; here that stays the most.
    """
    most, margins = recipe.most_crops, 2 * recipe.margin
    window = recipe.tile - margins  # what a crop adds to the one before it
    width, height = size[0] - margins, size[1] - margins
    if height <= window or width <= window:
        return 1, 1
    least_rows, least_cols = math.ceil(height / window), math.ceil(width / window)
    if least_rows * least_cols > most:
        share = math.sqrt(most / (least_rows * least_cols))
        rows, cols = (max(1, math.floor(n * share)) for n in (least_rows, least_cols))
        return min(rows, most), min(cols, most)
    rows = max(math.floor(math.sqrt(most * height / width)), least_rows)
    cols = max(math.floor(math.sqrt(most * width / height)), least_cols)
    if rows * cols > most:
        if cols > rows:
            cols = most // rows
        else:
            rows = most // cols
    return max(1, rows), max(1, cols)


def cut(image: Image.Image, recipe: Crops, resample: Image.Resampling) -> list[NDArray[np.uint8]]:
    """The crops of an RGB image row by row, then the whole of it; one tile where one crop is all.

    Each [tile, tile, 3]. With one crop, that crop and the whole image are the same pixels.
    """
    tile, window = recipe.tile, recipe.tile - 2 * recipe.margin
    whole = np.asarray(resize(image, (tile, tile), resample))
    rows, cols = tiling(image.size, recipe)
    if rows * cols == 1:
        return [whole]
    size = (cols * window + 2 * recipe.margin, rows * window + 2 * recipe.margin)
    grid = np.asarray(resize(image, size, resample))
    corners = [(row * window, col * window) for row in range(rows) for col in range(cols)]
    return [*(grid[y : y + tile, x : x + tile] for y, x in corners), whole]


def joined(
    features: Iterable[FloatArray], rows: int, cols: int, side: int, overlap: Overlap
) -> FloatArray:
    """Patches [side^2, H] of each crop, then of the whole image -> the whole's | the crops'.

    The crops' patches, stitched without what overlaps, are averaged to `side` x `side` (adaptive
    average pooling). Both steps are linear in rows and columns apart, so each crop adds its part:
    down @ crop @ across. Result [side^2, 2 H]; only two grids are held at a time.
    """
    down, across = (_shares(count, side, overlap.margin) for count in (rows, cols))
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


def _shares(count: int, side: int, margin: int) -> list[FloatArray]:
    """For each of `count` crops along an axis, what its patches add to the pooled ones.

    [side pooled, side of the crop]; a pooled patch i is the mean of the stitched ones from
    floor(i n / side) to ceil((i + 1) n / side), n of them in all.
    """
    step = side - 2 * margin
    total = step * count + 2 * margin
    pooled = np.arange(side)
    first, last = pooled * total // side, -(-(pooled + 1) * total // side)
    shares = []
    for n in range(count):
        patch = np.arange(side)
        kept = ((patch >= margin) | (n == 0)) & ((patch < side - margin) | (n == count - 1))
        place = n * step + patch
        within = (place >= first[:, None]) & (place < last[:, None]) & kept
        shares.append((within / (last - first)[:, None]).astype(np.float32))
    return shares
