"""Answers that are places in an image: coordinates and sizes in the place of tokens.

The loop of vikhyat/moondream, moondream/torch/moondream.py (_generate_points). NOT aware of ONNX
Runtime or torch: those are backends that have the region heads.
"""

from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np

from runtimes.base import FloatArray, IntArray, Logits, Place

Head = Literal["coord", "size"]
SMALLEST_LOG2 = -10.0  # a size of 2^-10 is bin 0, one of 1 the last bin


class Places(Protocol):
    """What a backend has beside runtimes.session.loop.Backend where its model has region heads."""

    context: int

    @property
    def state(self) -> FloatArray:
        """[H]: the decoder's state of the last position of the last `extend`."""

    def extend(self, ids: IntArray, features: FloatArray | None, past: int) -> Logits:
        """As of Backend."""

    def embed_places(self, head: Head, numbers: FloatArray) -> FloatArray:
        """Coordinates [n, 1] or widths and heights [n, 2] as embeddings [n, H]."""

    def place_logits(self, head: Head) -> FloatArray:
        """Logits over the bins of a coordinate [bins], or of width and height [2 bins]."""


def embedded(backend: Places, place: Place) -> FloatArray:
    """The positions of a place in a prompt: x, y [2, H], for a box its middle and size [3, H]."""
    if len(place) == 2:
        return backend.embed_places("coord", _column(*place))
    x_min, y_min, x_max, y_max = place
    middle = _column((x_min + x_max) / 2, (y_min + y_max) / 2)
    size = np.array([[x_max - x_min, y_max - y_min]], np.float32)
    return np.concatenate(
        [backend.embed_places("coord", middle), backend.embed_places("size", size)]
    )


def places(
    backend: Places,
    logits: Logits,
    length: int,
    *,
    placeholder: int,
    stop: frozenset[int],
    sized: bool,
    most: int,
) -> Iterator[Place]:
    """Points (x, y), or boxes (x_min, y_min, x_max, y_max) where `sized`, in shares of the image.

    `logits` are those behind a prompt of `length` positions; after each place the next logits say
    whether there is one more. Ends before the context does.
    """
    id_ = np.array([placeholder], np.int64)
    positions = 3 if sized else 2
    for _ in range(most):
        if int(logits.argmax()) in stop or length + positions > backend.context:
            return
        x = _coordinate(backend)
        backend.extend(id_, backend.embed_places("coord", _column(x)), length)
        y = _coordinate(backend)
        rows = backend.embed_places("coord", _column(y))
        logits = backend.extend(id_, rows, length + 1)
        place: Place = (x, y)
        if sized:
            width, height = _size(backend)
            rows = backend.embed_places("size", np.array([[width, height]], np.float32))
            logits = backend.extend(id_, rows, length + 2)
            place = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        yield place
        length += positions


def _coordinate(backend: Places) -> float:
    logits = backend.place_logits("coord")
    return int(np.argmax(logits)) / len(logits)


def _size(backend: Places) -> tuple[float, float]:
    """Width and height; the bins are even in the logarithm."""
    both = backend.place_logits("size").reshape(2, -1)
    shares = both.argmax(-1) / (both.shape[-1] - 1)
    width, height = 2.0 ** (SMALLEST_LOG2 * (1 - shares))
    return float(width), float(height)


def _column(*numbers: float) -> FloatArray:
    return np.array(numbers, np.float32)[:, None]
