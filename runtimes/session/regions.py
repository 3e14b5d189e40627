"""Answers that are regions of an image: region heads predict coordinates and sizes, not tokens.

The loop of vikhyat/moondream, moondream/torch/moondream.py (_generate_points).
"""

from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np

from export.arrays import FloatArray
from runtimes.base import Logits, Region
from runtimes.session.backend import Extend

RegionHead = Literal["coord", "size"]
SMALLEST_LOG2 = -10.0  # the first bin of a size is 2^-10, the last one 1


class RegionBackend(Protocol):
    """What a backend has besides `Backend` when its model has region heads."""

    context: int

    def extend(self, step: Extend) -> Logits:
        """See Backend."""

    def region_embeddings(self, head: RegionHead, values: FloatArray) -> FloatArray:
        """Embeddings [n, hidden] of coordinates [n, 1] or of widths and heights [n, 2]."""

    def region_logits(self, head: RegionHead) -> FloatArray:
        """Logits over the bins of a coordinate [bins] or of width and height [2 bins].

        The head reads the decoder's state before the output norm at the last extended position.
        """


def embed_region(backend: RegionBackend, region: Region) -> FloatArray:
    """Embeddings of a region in a prompt: [2, hidden] for x, y; [3, hidden] for a box.

    A box is embedded as the x and y of its centre, then its size.
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
    """Points, or boxes where `boxes`, in normalized coordinates (see Region); at most `limit`.

    `logits` are the last ones of a prompt of `length` positions. Before each region the model
    chooses a token: one of `stop` ends the answer, any other one starts a region. The answer also
    ends where the context has no positions left for another region.
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
    logits = backend.region_logits("coord")
    return int(np.argmax(logits)) / len(logits)


def _size(backend: RegionBackend) -> tuple[float, float]:
    """Width and height; the bins are evenly spaced in the logarithm."""
    both = backend.region_logits("size").reshape(2, -1)
    fractions = both.argmax(-1) / (both.shape[-1] - 1)
    width, height = 2.0 ** (SMALLEST_LOG2 * (1 - fractions))
    return float(width), float(height)


def _column(*values: float) -> FloatArray:
    return np.array(values, np.float32)[:, None]
