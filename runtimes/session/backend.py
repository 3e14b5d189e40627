"""What a session needs from a backend, and the steps that a backend executes.

A backend holds one loaded model and does its arithmetic. NOT aware of requests, prompts or clocks.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from export.arrays import FloatArray, IntArray
from export.images.pixels import Pixels
from export.modeling.vlm import Vlm
from runtimes.base import Logits
from runtimes.session.positions import text_positions

CONTEXT = 4096
"""Positions of a session's cache unless more are asked for: enough for several tiled images and a
long answer. The cache of a model's full context can take many gigabytes."""


class Encode(NamedTuple):
    """A step: encode the images of one request.

    Requests with the same non-empty `key` have the same images, so they may share the features.
    """

    key: str
    images: tuple[Pixels, ...]

    @property
    def activity(self) -> str:
        """The end of an error message: when the error happened."""
        return "while an image was encoded"


class Extend(NamedTuple):
    """A step: append the tokens `ids` [n] after the first `past` positions of the cache.

    Image tokens among the ids take the rows of `features` [image tokens, hidden] in order. Image
    tokens beyond the last row belong to an answer and keep their own embedding. `positions` [3, n]
    are time, row and column of each token (runtimes.session.positions); only decoders with
    three-axis rotary embeddings read them.
    """

    ids: IntArray
    features: FloatArray | None
    past: int
    positions: IntArray

    @classmethod
    def sequential(
        cls, ids: IntArray, past: int = 0, features: FloatArray | None = None
    ) -> "Extend":
        """A step whose positions count on from `past` on all three axes, as those of text do."""
        return cls(ids, features, past, text_positions(past, len(ids)))

    def after_prefix(self, length: int, image_token_id: int | None) -> "Extend":
        """The rest of a prompt whose first `length` positions are cached already."""
        features = self.features
        if features is not None:
            features = features[np.count_nonzero(self.ids[:length] == image_token_id) :]
            features = features if len(features) else None
        return Extend(self.ids[length:], features, length, self.positions[:, length:])

    @property
    def activity(self) -> str:
        """The end of an error message: when the error happened."""
        return "while decoding" if self.past and len(self.ids) == 1 else "in the prefill"


class VisionTower(Protocol):
    """A loaded vision tower with its projector.

    Towers are loaded apart from decoders, because a decoder may take the features that a tower of
    another library computes.
    """

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Features of the images, one row per image token: [tokens, hidden]."""

    def close(self) -> None:
        """Free the tower's memory; a second call does nothing."""


class Backend(Protocol):
    """One loaded model with a key-value cache of `context` positions."""

    context: int

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Features of the images, one row per image token: [tokens, hidden]."""

    def extend(self, step: Extend) -> Logits:
        """Run the decoder on one step; returns the logits [vocab] of its last position.

        The next call may overwrite the logits that this one returned.
        """

    def close(self) -> None:
        """Free the model's memory."""


class BatchBackend(Backend, Protocol):
    """A backend that extends several sequences at once, each with its own cache."""

    def encode_each(self, images: Sequence[tuple[Pixels, ...]]) -> Sequence[FloatArray]:
        """Features of each request's images, as `encode` returns them."""

    def extend_each(self, steps: dict[int, Extend], common: int) -> dict[int, FloatArray]:
        """Run one step of each sequence; returns the logits [vocab] of each one's last position.

        Keys are the sequences' numbers. All sequences start in the same call, with `past` 0, and
        grow by one token in each later call; a sequence that is left out has ended. In the first
        call, all prompts have the same first `common` positions, images included; later it is 0.
        """


def context_length(vlm: Vlm, requested: int | None = None) -> int:
    """Positions of a session's cache: as requested, else the model's limit, at most CONTEXT."""
    return requested or min(vlm.text.context, CONTEXT)
