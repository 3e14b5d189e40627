"""Cuts images into overlapping crops and adds the whole image (Moondream 2)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.images.pixels import RESAMPLE, Normalization, Pixels, Triple
from export.images.resize import Size, resize
from export.modeling.vision import Vision


@dataclass(frozen=True)
class Crops:
    """A recipe that stretches an image to a grid of crops whose neighbours overlap.

    Crops are `tile` x `tile` pixels and share 2 * `margin` pixels. If there is more than one, the
    whole image follows them, shrunk to one tile. max_tiles: most tiles of an image with the whole
    one; None: no such limit. mean, std, rescale: normalization of pixels. transparency: whether it
    is blended onto white or dropped.
    """

    tile: int
    margin: int
    max_crops: int
    mean: Triple
    std: Triple
    rescale: float
    resample: Literal["lanczos"] = "lanczos"
    transparency: Literal["white", "dropped"] = "dropped"
    max_tiles: int | None = None
    kind: Literal["crops"] = "crops"

    @property
    def most_crops(self) -> int:
        """Most crops of one image, by `max_crops` and `max_tiles` (which counts the whole, too)."""
        within = self.max_crops if self.max_tiles is None else self.max_tiles - 1
        return max(1, min(self.max_crops, within))

    @property
    def most_tiles(self) -> int:
        """Most tiles of one image: its crops and the whole image."""
        return self.most_crops + 1 if self.most_crops > 1 else 1

    @property
    def used_edge(self) -> int:
        """Longest edge in pixels beyond which an image shows the model no more detail."""
        return math.isqrt(self.most_crops) * (self.tile - 2 * self.margin) + 2 * self.margin

    def within(self, max_tiles: int | None) -> "Crops":
        """Returns a copy that makes at most `max_tiles` tiles of an image; None: no such limit."""
        return replace(self, max_tiles=max_tiles)

    def one_tile(self) -> "Crops":
        """Returns a copy that makes one tile of every image."""
        return self.within(1)

    def tiling(self, size: Size) -> tuple[int, int]:
        """Selects how many rows and columns of crops an image of this size gets.

        As `select_tiling` of moondream/torch/image_crops.py, but never more than `max_crops`, which
        that function exceeds for images more than about twelve times as long as wide.
        """
        most, margins = self.most_crops, 2 * self.margin
        window = self.tile - margins  # what a crop adds to the one before it
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

    def pixels(self, image: Image.Image) -> Pixels:
        """Prepares an RGB image: its crops row by row, then the whole image."""
        rows, cols = self.tiling(image.size)
        tiles = self._cut(image, rows, cols)
        normalization = Normalization(self.mean, self.std, self.rescale)
        return Pixels(normalization.tiles(tiles, self.tile), rows, cols, image)

    def _cut(self, image: Image.Image, rows: int, cols: int) -> list[NDArray[np.uint8]]:
        """Returns the crops and the whole image, [tile, tile, 3] each; only the latter if 1 x 1."""
        tile, resample = self.tile, RESAMPLE[self.resample]
        window = tile - 2 * self.margin
        whole = np.asarray(resize(image, (tile, tile), resample))
        if rows * cols == 1:
            return [whole]
        size = (cols * window + 2 * self.margin, rows * window + 2 * self.margin)
        grid = np.asarray(resize(image, size, resample))
        corners = [(row * window, col * window) for row in range(rows) for col in range(cols)]
        return [*(grid[y : y + tile, x : x + tile] for y, x in corners), whole]

    def preprocessor(self) -> Mapping[str, Any]:
        """Returns no keys: Moondream has these settings in its code, not in a file."""
        return {}

    def problems(self, vision: Vision) -> Iterator[str]:
        """Yields a message for each setting that does not fit the model's vision encoder."""
        tower, crops = vision.tower, vision.crops
        shared = crops.margin * tower.patch_size if crops else None
        fits = self.tile == tower.image_size and self.margin == shared
        if not fits or not 1 <= self.max_crops <= 1 << 10:
            yield (
                f"up to {self.max_crops} crops of {self.tile} pixels with a margin of "
                f"{self.margin}, expected crops of {tower.image_size} with a margin of {shared}"
            )
