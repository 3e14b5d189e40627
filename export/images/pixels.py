"""A prepared image, and the steps that recipes share: filters, normalization."""

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
    """One prepared image: `values` float32 [tiles, 3, tile, tile], row by row, overview last.

    `rows` x `cols` is the grid of tiles (1 x 1 and one tile where the image was not cut). `rgb` is
    the image before it is cut, for runtimes that cut it themselves. An image of any size has its
    patches as rows of `values` [patches, values of one] and `token_grid`: rows and columns of its
    tokens.
    """

    values: FloatArray
    rows: int
    cols: int
    rgb: Image.Image
    token_grid: tuple[int, int] | None = None

    @property
    def tiles(self) -> int:
        """Tiles of `values`; an image of any size is one."""
        return len(self.values) if self.token_grid is None else 1


@dataclass(frozen=True)
class Normalization:
    """uint8 levels become (level * rescale - mean) / std, by channel."""

    mean: Triple
    std: Triple
    rescale: float

    def tiles(self, tiles: Sequence[NDArray[np.uint8]], edge: int) -> FloatArray:
        """uint8 [edge, edge, 3] each -> float32 [tiles, 3, edge, edge]."""
        values = np.empty((len(tiles), 3, edge, edge), np.float32)
        for tile, out in zip(tiles, values, strict=True):
            self.into(tile, out)
        return values

    def into(self, rgb: NDArray[np.uint8], out: FloatArray) -> None:
        """uint8 [height, width, 3] -> float32 [3, height, width], by a table of 256 a channel."""
        levels = (np.arange(256) * self.rescale).astype(np.float32)  # float64 product, as theirs
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            table = (levels - np.float32(mean)) / np.float32(std)
            np.take(table, rgb[:, :, channel], out=out[channel], mode="clip")  # without a buffer

    def problems(self) -> Iterator[str]:
        """What is wrong with the numbers."""
        values = (*self.mean, *self.std, self.rescale)
        if not all(isfinite(value) for value in values) or not all(s > 0 for s in self.std):
            yield (
                f"image_mean {self.mean}, image_std {self.std} and rescale_factor {self.rescale} "
                f"cannot be used"
            )
