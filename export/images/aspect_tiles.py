"""Cuts images into the grid of square tiles with the nearest aspect ratio (InternVL)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from export.images.pixels import RESAMPLE, Normalization, Pixels, Triple
from export.images.resize import Size, resize
from export.modeling.vision import Vision


@dataclass(frozen=True)
class AspectTiles:
    """A recipe that stretches an image to a grid of min_crops to max_crops tiles and cuts it.

    Tiles are `tile` x `tile` pixels. If there is more than one, the whole image follows them as a
    thumbnail of one tile. max_tiles: most tiles of an image with the thumbnail; None: no such
    limit. mean, std, rescale: normalization of pixels. transparency: whether it is
    blended onto white or dropped.
    """

    tile: int
    min_crops: int
    max_crops: int
    mean: Triple
    std: Triple
    rescale: float
    resample: Literal["bicubic"] = "bicubic"
    transparency: Literal["white", "dropped"] = "white"
    max_tiles: int | None = None
    kind: Literal["aspect_tiles"] = "aspect_tiles"

    @property
    def most_crops(self) -> int:
        """Most tiles of one image, without the thumbnail, by `max_crops` and `max_tiles`."""
        within = self.max_crops if self.max_tiles is None else self.max_tiles - 1
        return max(1, min(self.max_crops, within))

    @property
    def most_tiles(self) -> int:
        """Most tiles of one image, with the thumbnail."""
        return self.most_crops + 1 if self.most_crops > 1 else 1

    @property
    def used_edge(self) -> int:
        """Longest edge in pixels beyond which an image shows the model no more detail."""
        return self.most_crops * self.tile

    def within(self, max_tiles: int | None) -> "AspectTiles":
        """Returns a copy that makes at most `max_tiles` tiles of an image; None: no such limit."""
        return replace(self, max_tiles=max_tiles)

    def one_tile(self) -> "AspectTiles":
        """Returns a copy that makes one tile of every image."""
        return self.within(1)

    def grid(self, size: Size) -> tuple[int, int]:
        """Selects rows and columns of the grid whose aspect ratio is nearest to that of an image.

        Of grids with equal ratios, a larger one is taken while its area is less than twice the
        image's (get_optimal_tiled_canvas of transformers' GotOcr2ImageProcessor).
        """
        most = range(1, self.most_crops + 1)
        least = min(self.min_crops, self.most_crops)
        grids = [(c, r) for c in most for r in most if least <= c * r <= self.most_crops]
        width, height = size
        best, smallest = (1, 1), float("inf")
        for cols, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
            difference = abs(width / height - cols / rows)
            larger = width * height > 0.5 * self.tile**2 * cols * rows
            if difference < smallest or (difference == smallest and larger):
                best, smallest = (rows, cols), difference
        return best

    def pixels(self, image: Image.Image) -> Pixels:
        """Prepares an RGB image: its tiles row by row and, if there are several, the thumbnail."""
        (rows, cols), tile, resample = self.grid(image.size), self.tile, RESAMPLE[self.resample]
        stretched = resize(image, (cols * tile, rows * tile), resample)
        whole = np.asarray(stretched)  # [height, width, 3]
        corners = [(row * tile, col * tile) for row in range(rows) for col in range(cols)]
        tiles = [whole[y : y + tile, x : x + tile] for y, x in corners]
        if len(tiles) > 1:
            tiles.append(np.asarray(resize(image, (tile, tile), resample)))
        normalization = Normalization(self.mean, self.std, self.rescale)
        return Pixels(normalization.tiles(tiles, tile), rows, cols, stretched)

    def preprocessor(self) -> Mapping[str, Any]:
        """Returns this recipe's keys for preprocessor_config.json, without those that all share."""
        return {
            "size": {"height": self.tile, "width": self.tile},
            "crop_to_patches": True,
            "min_patches": min(self.min_crops, self.most_crops),
            "max_patches": self.most_crops,
        }

    def problems(self, vision: Vision) -> Iterator[str]:
        """Yields a message for each setting that does not fit the model's vision encoder."""
        expected = vision.tower.image_size
        fits = 1 <= self.min_crops <= self.max_crops <= 1 << 10
        if self.tile != expected or not fits:
            yield (
                f"{self.min_crops} to {self.max_crops} tiles of {self.tile} pixels, expected 1 to "
                f"1024 tiles of {expected}"
            )
