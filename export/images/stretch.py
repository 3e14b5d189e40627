"""Stretches images to one square (Gemma 3 without pan and scan)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from export.images.pixels import RESAMPLE, Normalization, Pixels, Triple
from export.images.resize import resize
from export.modeling.vision import Vision


@dataclass(frozen=True)
class Stretch:
    """A recipe that stretches every image to one tile of `size` x `size` pixels.

    mean, std, rescale: normalization of pixels. transparency: whether it is blended
    onto white or dropped.
    """

    size: int
    mean: Triple
    std: Triple
    rescale: float
    resample: Literal["bilinear"] = "bilinear"
    transparency: Literal["white", "dropped"] = "white"
    kind: Literal["stretch"] = "stretch"

    @property
    def most_tiles(self) -> int:
        """Always 1: the stretched image is one tile."""
        return 1

    @property
    def used_edge(self) -> int:
        """Longest edge in pixels beyond which an image shows the model no more detail."""
        return self.size

    def within(self, max_tiles: int | None) -> "Stretch":
        """Returns itself: an image is one tile, whatever the limit `max_tiles`."""
        return self

    def one_tile(self) -> "Stretch":
        """Returns itself: every image is one tile already."""
        return self

    def pixels(self, image: Image.Image) -> Pixels:
        """Prepares an RGB image: its one tile."""
        whole = resize(image, (self.size, self.size), RESAMPLE[self.resample])
        normalization = Normalization(self.mean, self.std, self.rescale)
        return Pixels(normalization.tiles([np.asarray(whole)], self.size), 1, 1, whole)

    def preprocessor(self) -> Mapping[str, Any]:
        """Returns this recipe's keys for preprocessor_config.json, without those that all share."""
        return {"size": {"height": self.size, "width": self.size}}

    def problems(self, vision: Vision) -> Iterator[str]:
        """Yields a message for each setting that does not fit the model's vision encoder."""
        if self.size != vision.tower.image_size:
            yield f"images of {self.size} pixels, expected {vision.tower.image_size}"
