"""Images stretched to one square (Gemma 3 without pan and scan)."""

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
    """Both edges become `size` pixels, whatever the image's shape."""

    size: int
    mean: Triple
    std: Triple
    rescale: float
    resample: Literal["bilinear"] = "bilinear"
    transparency: Literal["white", "dropped"] = "white"
    kind: Literal["stretch"] = "stretch"

    @property
    def most_tiles(self) -> int:
        """The stretched image is the one tile."""
        return 1

    @property
    def used_edge(self) -> int:
        """Pixels of an image's longest edge that the recipe makes use of."""
        return self.size

    def within(self, max_tiles: int | None) -> "Stretch":
        """Itself: one tile keeps to every bound."""
        return self

    def one_tile(self) -> "Stretch":
        """Itself."""
        return self

    def pixels(self, image: Image.Image) -> Pixels:
        """The one tile of an RGB image."""
        whole = resize(image, (self.size, self.size), RESAMPLE[self.resample])
        normalization = Normalization(self.mean, self.std, self.rescale)
        return Pixels(normalization.tiles([np.asarray(whole)], self.size), 1, 1, whole)

    def preprocessor(self) -> Mapping[str, Any]:
        """Its own keys of preprocessor_config.json."""
        return {"size": {"height": self.size, "width": self.size}}

    def problems(self, vision: Vision) -> Iterator[str]:
        """What is wrong with the numbers for this tower."""
        if self.size != vision.tower.image_size:
            yield f"images of {self.size} pixels, expected {vision.tower.image_size}"
