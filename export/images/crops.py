"""Images as overlapping crops beside the whole (Moondream 2)."""

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
    """An image is stretched to a grid of crops whose neighbours share 2 `margin` pixels.

    An image that takes more than one crop is followed by the whole of it in one tile; an image that
    takes one crop is that crop.
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
        """What `max_crops` and a budget of `max_tiles`, the whole image's included, allow."""
        within = self.max_crops if self.max_tiles is None else self.max_tiles - 1
        return max(1, min(self.max_crops, within))

    @property
    def most_tiles(self) -> int:
        """The most crops and the whole image."""
        return self.most_crops + 1 if self.most_crops > 1 else 1

    @property
    def used_edge(self) -> int:
        """Pixels of an image's longest edge that the recipe makes use of."""
        return math.isqrt(self.most_crops) * (self.tile - 2 * self.margin) + 2 * self.margin

    def within(self, max_tiles: int | None) -> "Crops":
        """The same recipe with at most so many tiles an image; None: the recipe's own bound."""
        return replace(self, max_tiles=max_tiles)

    def one_tile(self) -> "Crops":
        """The same recipe with one tile an image."""
        return self.within(1)

    def tiling(self, size: Size) -> tuple[int, int]:
        """Rows and columns of crops for an image of this size.

        `select_tiling` of moondream/torch/image_crops.py, which gives images over about twelve
        times as long as wide more than `max_crops`; here that stays the bound.
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
        """The crops of an RGB image, row by row, then the whole of it."""
        rows, cols = self.tiling(image.size)
        tiles = self._cut(image, rows, cols)
        normalization = Normalization(self.mean, self.std, self.rescale)
        return Pixels(normalization.tiles(tiles, self.tile), rows, cols, image)

    def _cut(self, image: Image.Image, rows: int, cols: int) -> list[NDArray[np.uint8]]:
        """Tiles [tile, tile, 3]. With one crop, that crop and the whole image are the same."""
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
        """No key: the author's code has these numbers, and no file."""
        return {}

    def problems(self, vision: Vision) -> Iterator[str]:
        """What is wrong with the numbers for this tower."""
        tower, crops = vision.tower, vision.crops
        shared = crops.margin * tower.patch_size if crops else None
        fits = self.tile == tower.image_size and self.margin == shared
        if not fits or not 1 <= self.max_crops <= 1 << 10:
            yield (
                f"up to {self.max_crops} crops of {self.tile} pixels with a margin of "
                f"{self.margin}, expected crops of {tower.image_size} with a margin of {shared}"
            )
