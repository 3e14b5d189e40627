"""Generates answers that are points or boxes in an image, from region heads instead of tokens.

Region heads are small networks that read and predict coordinates and sizes. The loop is that of
vikhyat/moondream, moondream/torch/moondream.py (_generate_points).
"""

from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np

from export.arrays import FloatArray
from runtimes.base import Logits, Region
from runtimes.session.backend import Extend

RegionHead = Literal["coord", "size"]
"""coord: one coordinate, x or y; size: width and height together."""
SMALLEST_LOG2 = -10.0  # the first bin of a size is 2^-10
LAST_BIN = 1023  # the bin of a size of 1, however many bins a model has


class RegionBackend(Protocol):
    """What a backend offers, in addition to Backend's methods, if its model has region heads.

    Region heads are small networks that read and predict coordinates and sizes in an image.
    """

    context: int

    def extend(self, step: Extend) -> Logits:
        """Runs the decoder on a step's tokens; returns the last one's logits [vocab] (Backend)."""

    def region_embeddings(self, head: RegionHead, values: FloatArray) -> FloatArray:
        """Returns embeddings [n, hidden] of n coordinates or sizes, for the decoder's input.

        `values`: [n, 1] for the head "coord"; widths and heights [n, 2] for the head "size".
        """

    def region_logits(self, head: RegionHead) -> FloatArray:
        """Returns logits over the coordinates or sizes that a head can predict, its bins.

        [bins] for a coordinate; [2 bins] for a size: the width's bins, then the height's. The head
        reads the decoder's state before the output norm at the last position of the last `extend`.
        """


def embed_region(backend: RegionBackend, region: Region) -> FloatArray:
    """Returns the embeddings of a point or box for a prompt: [2, hidden] or [3, hidden].

    A point is embedded as its x and its y; a box as the x and the y of its centre, and its size.
    """
    if len(region) == 2:
        return backend.region_embeddings("coord", _column(*region))
    x_min, y_min, x_max, y_max = region
    centre = _column((x_min + x_max) / 2, (y_min + y_max) / 2)
    size = np.array([[x_max - x_min, y_max - y_min]], np.float32)
    return np.concatenate(
        [backend.region_embeddings("coord", centre), backend.region_embeddings("size", size)]
    )


def generate_regions(
    backend: RegionBackend,
    logits: Logits,
    length: int,
    *,
    placeholder: int,
    stop: frozenset[int],
    boxes: bool,
    limit: int,
) -> Iterator[Region]:
    """Generates an answer of points or, if `boxes` is true, of boxes; yields each as a Region.

    `logits` are those of the last position of a prompt of `length` positions; `placeholder` is the
    token id of a coordinate or size. Before each region the model chooses a token: one of `stop`
    ends the answer, any other one starts a region. The answer also ends after `limit` regions, or
    where the context has no positions left for another one.
    """
    ids = np.array([placeholder], np.int64)
    positions = 3 if boxes else 2
    for _ in range(limit):
        if int(logits.argmax()) in stop or length + positions > backend.context:
            return
        x = _coordinate(backend)
        rows = backend.region_embeddings("coord", _column(x))
        backend.extend(Extend.sequential(ids, length, rows))
        y = _coordinate(backend)
        rows = backend.region_embeddings("coord", _column(y))
        logits = backend.extend(Extend.sequential(ids, length + 1, rows))
        region: Region = (x, y)
        if boxes:
            width, height = _size(backend)
            rows = backend.region_embeddings("size", np.array([[width, height]], np.float32))
            logits = backend.extend(Extend.sequential(ids, length + 2, rows))
            region = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        yield region
        length += positions


def _coordinate(backend: RegionBackend) -> float:
    """Returns the most probable coordinate, a fraction of the image's width or height."""
    logits = backend.region_logits("coord")
    return int(np.argmax(logits)) / len(logits)


def _size(backend: RegionBackend) -> tuple[float, float]:
    """Returns the most probable width and height, as fractions of the image's.

    Their bins are evenly spaced in the logarithm, 1023 steps from 2^-10 to 1.
    """
    both = backend.region_logits("size").reshape(2, -1)
    width, height = 2.0 ** (SMALLEST_LOG2 * (1 - both.argmax(-1) / LAST_BIN))
    return float(width), float(height)


def _column(*values: float) -> FloatArray:
    """Returns numbers as a float32 array [n, 1]."""
    return np.array(values, np.float32)[:, None]
