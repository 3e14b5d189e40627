"""Defines what a session needs from a backend, and the steps that a backend executes.

A backend holds one loaded model and does its arithmetic. NOT aware of requests, prompts or clocks.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from export.arrays import FloatArray, IntArray
from export.errors import UserError
from export.images.pixels import Pixels
from export.modeling.vlm import Vlm
from runtimes.base import Logits
from runtimes.session.positions import text_positions

CONTEXT = 4096
"""Default limit of a session's key-value cache, in positions: enough for several tiled images and a
long answer. The cache of a model's full context can take many gigabytes."""


class Encode(NamedTuple):
    """A step that tells a backend to encode the images of one request into features.

    Requests with the same non-empty `key` have the same images, so they may share the features.
    """

    key: str
    images: tuple[Pixels, ...]

    @property
    def activity(self) -> str:
        """Returns words for an error message that say when it happened: while encoding an image."""
        return "while an image was encoded"


class Extend(NamedTuple):
    """A step that tells a backend to append the tokens `ids` [n] to its key-value cache.

    They follow the first `past` positions of the cache; later ones are discarded. Image tokens
    among the ids are replaced by the rows of `features` [image tokens, hidden], in order; image
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
        """Returns a step whose positions count up from `past`, equal on all axes, as for text."""
        return cls(ids, features, past, text_positions(past, len(ids)))

    def after_prefix(self, length: int, image_token_id: int | None) -> "Extend":
        """Returns the step without its first `length` tokens, which are cached already.

        Drops the features of the image tokens among them, too.
        """
        features = self.features
        if features is not None:
            features = features[np.count_nonzero(self.ids[:length] == image_token_id) :]
            features = features if len(features) else None
        return Extend(self.ids[length:], features, length, self.positions[:, length:])

    def parts_for(self, vlm: Vlm, most: int) -> Iterator["Extend"]:
        """Yields steps of at most `most` tokens each that the decoder of `vlm` may take (parts)."""
        if len(self.ids) == 1:  # as each step of an answer
            return iter((self,))
        text = vlm.text
        return self.parts(
            most, vlm.image_token_id, whole_images=text.sees_later_positions, prefix=text.prefix
        )

    def parts(
        self, most: int, image_token_id: int | None, *, whole_images: bool, prefix: int = 0
    ) -> Iterator["Extend"]:
        """Yields steps of at most `most` tokens each, which together do the same.

        `whole_images`: a run of image tokens is not divided, because they attend to each other in
        both directions. The first `prefix` positions of the cache (Decoder.prefix) are steps of
        their own. Raises UserError if a run is too long.
        """
        image, start, used = self.ids == image_token_id, 0, 0
        while start < len(self.ids):
            end = min(start + most, len(self.ids))
            if self.past + start < prefix:
                end = min(end, prefix - self.past)
            while whole_images and start < end < len(image) and image[end - 1] and image[end]:
                end -= 1
            if end == start:
                raise UserError(
                    f"an image of more than {most} tokens does not fit into one step of the decoder"
                )
            count = int(np.count_nonzero(image[start:end]))
            rows = None if self.features is None else self.features[used : used + count]
            yield Extend(
                self.ids[start:end],
                rows if rows is not None and len(rows) else None,
                self.past + start,
                self.positions[:, start:end],
            )
            start, used = end, used + count

    @property
    def activity(self) -> str:
        """Returns words for an error message that say when it happened: in prefill or decoding."""
        return "while decoding" if self.past and len(self.ids) == 1 else "in the prefill"


class VisionTower(Protocol):
    """A loaded vision encoder with its projector, which turns images into decoder inputs.

    Towers are loaded apart from decoders, because a decoder may take the features that a tower of
    another library computes.
    """

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Returns the features of all images in order, a row per image token: [tokens, hidden]."""

    def close(self) -> None:
        """Frees the tower's memory; a second call does nothing."""


class Backend(Protocol):
    """One loaded model with a key-value cache of `context` positions, driven by a GreedySession."""

    context: int

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Returns the features of all images in order, a row per image token: [tokens, hidden]."""

    def extend(self, step: Extend) -> Logits:
        """Runs the decoder on a step's tokens and caches them; returns the last logits [vocab].

        The next call may overwrite the logits that this one returned.
        """

    def close(self) -> None:
        """Frees the model's memory."""


@runtime_checkable
class ThreadedBackend(Backend, Protocol):
    """A backend that can change its number of CPU threads between two steps."""

    def use_threads(self, threads: int) -> None:
        """Computes with so many threads from the next step on; the cache stays."""


@runtime_checkable
class ChoosingBackend(Backend, Protocol):
    """A backend that chooses by the machine how it computes some parts of the model."""

    @property
    def choices(self) -> Mapping[str, str]:
        """Returns what was chosen: part of the model -> words for its choice."""


class BatchBackend(Backend, Protocol):
    """A backend that extends several sequences at once, each with its own cached positions."""

    def encode_each(self, images: Sequence[tuple[Pixels, ...]]) -> Sequence[FloatArray]:
        """Returns the features of each request's images, [tokens, hidden] per request."""

    def extend_each(self, steps: dict[int, Extend], common: int) -> dict[int, FloatArray]:
        """Runs the decoder on one step of each sequence; returns the last token's logits of each.

        Keys of `steps` and of the result number the sequences; logits are [vocab]. All sequences
        start in the same call, with `past` 0, and grow by one token in each later call; a sequence
        that is left out has ended. In the first call, all prompts start with the same `common`
        positions, images included; later it is 0.
        """


def context_length(vlm: Vlm, requested: int | None = None) -> int:
    """Returns the number of positions that a session's key-value cache holds.

    That is `requested`; if it is None, the model's own limit, but at most CONTEXT.
    """
    return requested or min(vlm.text.context, CONTEXT)
