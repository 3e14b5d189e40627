"""The result of preparing an image, and steps that all recipes share: filters, normalization."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from export.arrays import FloatArray

RESAMPLE: Mapping[str, Image.Resampling] = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,  # antialiased, as all of Pillow's filters
}
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Pixels:
    """One prepared image, the input of a vision encoder.

    For encoders of tiles, `values` is float32 [tiles, 3, tile, tile], row by row, with the whole
    image last; `rows` x `cols` is the grid of tiles (1 x 1 if the image was not cut). For encoders
    of any size, `values` is [patches, values of a patch] and `token_grid` has the rows and columns
    of the image's tokens (otherwise None). `rgb` is the image before it is cut.
    """

    values: FloatArray
    rows: int
    cols: int
    rgb: Image.Image
    token_grid: tuple[int, int] | None = None

    @property
    def tiles(self) -> int:
        """How many tiles `values` has; an image for an encoder of any size counts as one."""
        return len(self.values) if self.token_grid is None else 1


@dataclass(frozen=True)
class Normalization:
    """Turns uint8 pixels into (pixel * rescale - mean) / std, channel by channel."""

    mean: Triple
    std: Triple
    rescale: float

    def tiles(self, tiles: Sequence[NDArray[np.uint8]], edge: int) -> FloatArray:
        """Normalizes uint8 tiles [edge, edge, 3] to one float32 array [tiles, 3, edge, edge]."""
        values = np.empty((len(tiles), 3, edge, edge), np.float32)
        for tile, out in zip(tiles, values, strict=True):
            self.into(tile, out)
        return values

    def into(self, rgb: NDArray[np.uint8], out: FloatArray) -> None:
        """Normalizes uint8 `rgb` [height, width, 3] and writes it to `out` [3, height, width]."""
        levels = (np.arange(256) * self.rescale).astype(np.float32)  # float64 product, as theirs
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            table = (levels - np.float32(mean)) / np.float32(std)
            np.take(table, rgb[:, :, channel], out=out[channel], mode="clip")  # without a buffer

    def problems(self) -> Iterator[str]:
        """Yields a message if a setting is not finite or a std is not above 0."""
        values = (*self.mean, *self.std, self.rescale)
        if not all(isfinite(value) for value in values) or not all(s > 0 for s in self.std):
            yield (
                f"image_mean {self.mean}, image_std {self.std} and rescale_factor {self.rescale} "
                f"cannot be used"
            )
