"""Cuts images into a grid of square tiles and adds an overview (Idefics3)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from export.errors import UserError
from export.images.pixels import RESAMPLE, Normalization, Pixels, Triple
from export.images.resize import Size, resize
from export.modeling.vision import Vision


@dataclass(frozen=True)
class Grid:
    """How an image is cut: it is resized to `scaled`, then to `resized`, then cut into the tiles.

    Sizes are (width, height) in pixels. There are `rows` x `cols` tiles, 1 x 1 without a cut.
    """

    scaled: Size
    resized: Size
    rows: int
    cols: int

    @property
    def tiles(self) -> int:
        """How many tiles the encoder gets: the grid's and, if the image was cut, the overview."""
        cut = self.rows * self.cols
        return cut + 1 if cut > 1 else 1


@dataclass(frozen=True)
class Tiles:
    """A recipe that resizes an image and cuts it into tiles of `tile` x `tile` pixels.

    The longest edge becomes `longest_edge` pixels (at most `max_edge`, Idefics3's MAX_IMAGE_SIZE),
    then both edges are rounded up to multiples of `tile`. An image of several tiles is followed by
    the whole image as an overview. split False: never cut. max_tiles: most tiles with the overview,
    for which the longest edge is lowered; None: no such limit. mean, std, rescale: normalization of
    pixels. transparency: whether it is blended onto white or dropped.
    """

    tile: int
    longest_edge: int
    split: bool
    mean: Triple
    std: Triple
    rescale: float
    resample: Literal["lanczos"] = "lanczos"
    max_tiles: int | None = None
    max_edge: int = 4096
    transparency: Literal["white", "dropped"] = "white"
    kind: Literal["tiles"] = "tiles"

    @property
    def most_tiles(self) -> int:
        """Most tiles of one image, with the overview."""
        side = min(self.longest_edge, self.max_edge) // self.tile
        tiles = side**2 + 1 if self.split and side > 1 else 1
        return min(tiles, self.max_tiles or tiles)

    @property
    def used_edge(self) -> int:
        """Longest edge in pixels beyond which an image shows the model no more detail."""
        return self.longest_edge

    def within(self, max_tiles: int | None) -> "Tiles":
        """Returns a copy that makes at most `max_tiles` tiles of an image; None: no such limit."""
        return replace(self, max_tiles=max_tiles)

    def one_tile(self) -> "Tiles":
        """Returns a copy that makes one tile of every image."""
        return replace(self, longest_edge=self.tile)

    def grid(self, size: Size) -> Grid:
        """Decides how an image of this (width, height) is cut.

        If that gives more than `max_tiles`, the longest edge is lowered to the largest multiple of
        `tile` that does not. Raises UserError if max_tiles is below 1.
        """
        if self.max_tiles is None:
            return self._grid(size)
        lower = range((self.longest_edge - 1) // self.tile * self.tile, 0, -self.tile)
        for edge in (self.longest_edge, *lower):
            found = replace(self, longest_edge=edge)._grid(size)
            if found.tiles <= self.max_tiles:
                return found
        raise UserError(f"max_tiles {self.max_tiles} is too few for any image; give 1 or more")

    def _grid(self, size: Size) -> Grid:
        tile = self.tile
        width, height = _scaled(size, self.longest_edge, even=True)
        if max(width, height) > self.max_edge:
            width, height = _scaled((width, height), self.max_edge, even=False)
        if not self.split:
            return Grid((width, height), (tile, tile), 1, 1)
        aspect = width / height
        if width >= height:
            full_width = _multiple(width, tile)
            full = full_width, _multiple(int(full_width / aspect), tile)
        else:
            full_height = _multiple(height, tile)
            full = _multiple(int(full_height * aspect), tile), full_height
        return Grid((width, height), full, full[1] // tile, full[0] // tile)

    def pixels(self, image: Image.Image) -> Pixels:
        """Prepares an RGB image: its tiles row by row and, if it was cut, the overview."""
        cut, resample, tile = self.grid(image.size), RESAMPLE[self.resample], self.tile
        image = resize(image, cut.scaled, resample)
        if cut.resized != cut.scaled:
            image = resize(image, cut.resized, resample)
        whole = np.asarray(image)  # [height, width, 3]
        corners = [(row * tile, col * tile) for row in range(cut.rows) for col in range(cut.cols)]
        tiles = [whole[y : y + tile, x : x + tile] for y, x in corners]
        if cut.tiles > 1:
            tiles.append(np.asarray(resize(image, (tile, tile), resample)))
        normalization = Normalization(self.mean, self.std, self.rescale)
        return Pixels(normalization.tiles(tiles, tile), cut.rows, cut.cols, image)

    def preprocessor(self) -> Mapping[str, Any]:
        """Returns this recipe's keys for preprocessor_config.json, without those that all share."""
        return {
            "size": {"longest_edge": min(self.longest_edge, self.max_edge)},
            "max_image_size": {"longest_edge": self.tile},
            "do_image_splitting": self.most_tiles > 1,
        }

    def problems(self, vision: Vision) -> Iterator[str]:
        """Yields a message for each setting that does not fit the model's vision encoder."""
        expected = vision.tower.image_size
        if self.tile != expected or not self.tile <= self.longest_edge <= 1 << 15:
            yield (
                f"tiles of {self.tile} pixels and a longest edge of {self.longest_edge}, expected "
                f"tiles of {expected} and an edge from there to {1 << 15}"
            )


def _scaled(size: Size, edge: int, even: bool) -> Size:
    """Scales a size so that its longest edge is `edge` pixels; the other one is truncated.

    With `even`, the other one becomes even; it is at least 1. Computed in the order of
    transformers, because another order sometimes truncates to another pixel.
    """
    width, height = size
    aspect = width / height
    other = int(edge / aspect) if width >= height else int(edge * aspect)
    if even:
        other += other % 2
    other = max(other, 1)
    return (edge, other) if width >= height else (other, edge)


def _multiple(length: int, of: int) -> int:
    return math.ceil(length / of) * of
