"""Cuts images of any size into patches, after resizing to whole squares (Qwen2-VL)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from export.errors import UserError
from export.images.pixels import RESAMPLE, Normalization, Pixels, Triple
from export.images.resize import Size, resize
from export.modeling.vision import ImageVision, Vision

MAX_ASPECT_RATIO = 200
"""Qwen2-VL's limit."""


@dataclass(frozen=True)
class Patches:
    """A recipe that resizes an image to multiples of patch_size * merge_size and cuts patches.

    The resized image has min_pixels to max_pixels in all. A patch is a row of channels x frames x
    patch x patch values; the patches of a square of merge_size x merge_size follow each other.
    max_tiles limits the area to that of so many tiles of `tile` x `tile` pixels; None: no such
    limit. mean, std, rescale: normalization of pixels.
    """

    patch_size: int
    merge_size: int
    temporal_patch_size: int
    min_pixels: int
    max_pixels: int
    tile: int
    mean: Triple
    std: Triple
    rescale: float
    resample: Literal["bicubic"] = "bicubic"
    transparency: Literal["white", "dropped"] = "white"
    max_tiles: int | None = None
    kind: Literal["patches"] = "patches"

    @property
    def most_tiles(self) -> int:
        """Always 1: an image of any size counts as one tile (of `tile` pixels in predictions)."""
        return 1

    @property
    def used_edge(self) -> int:
        """Edge in pixels of the example image for which memory and time are predicted."""
        return self.tile

    @property
    def most_pixels(self) -> int:
        """Most pixels of a resized image: max_pixels, or fewer if `max_tiles` is set.

        Never fewer than min_pixels.
        """
        budget = (self.max_tiles or self.max_pixels) * self.tile**2
        return max(self.min_pixels, min(self.max_pixels, budget))

    def within(self, max_tiles: int | None) -> "Patches":
        """Returns a copy that limits an image to the area of `max_tiles` tiles; None: no limit."""
        return replace(self, max_tiles=max_tiles)

    def one_tile(self) -> "Patches":
        """Returns a copy that limits an image to the area of one tile."""
        return self.within(1)

    def nearest_size(self, size: Size) -> Size:
        """Returns the size, in pixels, to which an image of this size is resized.

        Both edges are multiples of patch_size * merge_size. Raises UserError for an image that is
        more than 200 times as long as wide.
        """
        width, height = size
        unit = self.patch_size * self.merge_size
        if max(size) > MAX_ASPECT_RATIO * min(size):
            raise UserError(
                f"an image of {width} x {height} pixels is over {MAX_ASPECT_RATIO} times longer "
                f"than wide; cut it into parts"
            )
        rounded = round(width / unit) * unit, round(height / unit) * unit
        area, most = rounded[0] * rounded[1], self.most_pixels
        if area > most:
            scale = math.sqrt(height * width / most)
            width, height = (max(unit, math.floor(n / scale / unit) * unit) for n in size)
            return width, height
        if area < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (height * width))
            width, height = (math.ceil(n * scale / unit) * unit for n in size)
            return width, height
        return rounded

    def pixels(self, image: Image.Image) -> Pixels:
        """Prepares an RGB image: its patches, [patches, channels * frames * patch * patch]."""
        width, height = self.nearest_size(image.size)
        image = resize(image, (width, height), RESAMPLE[self.resample])
        values = np.empty((1, 3, height, width), np.float32)
        Normalization(self.mean, self.std, self.rescale).into(np.asarray(image), values[0])
        patch, merge = self.patch_size, self.merge_size
        rows, cols = height // patch // merge, width // patch // merge
        cut = values.reshape(3, 1, rows, merge, patch, cols, merge, patch)
        cut = cut.repeat(self.temporal_patch_size, axis=1).transpose(2, 5, 3, 6, 0, 1, 4, 7)
        flat = cut.reshape(rows * cols * merge**2, -1)
        return Pixels(flat, 1, 1, image, (rows, cols))

    def preprocessor(self) -> Mapping[str, Any]:
        """Returns this recipe's keys for preprocessor_config.json, without those that all share."""
        return {
            "patch_size": self.patch_size,
            "merge_size": self.merge_size,
            "min_pixels": self.min_pixels,
            "max_pixels": self.most_pixels,
            "temporal_patch_size": self.temporal_patch_size,
        }

    def problems(self, vision: Vision) -> Iterator[str]:
        """Yields a message for each setting that does not fit the model's vision encoder."""
        assert isinstance(vision, ImageVision), "patches are for towers that take any size"
        tower = vision.tower
        found = (self.patch_size, self.merge_size, self.temporal_patch_size)
        expected = (tower.patch_size, tower.spatial_merge_size, tower.temporal_patch_size)
        fits = 0 < self.min_pixels <= self.max_pixels <= 1 << 28
        if found != expected or not fits or self.max_pixels < (found[0] * found[1]) ** 2:
            names = "patch_size {}, merge_size {}, temporal_patch_size {}".format(*found)
            yield (
                f"{names} and {self.min_pixels} to {self.max_pixels} pixels, expected "
                f"{expected[0]}, {expected[1]}, {expected[2]} and an area of 1 to 2^28"
            )
