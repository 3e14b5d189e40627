"""What every runtime offers: a session answers a request with a stream of events.

Each event is yielded as soon as its result exists, so that the caller can time it. NOT aware of
clocks, reports or models' names: a runtime neither measures nor prints.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from PIL import Image

from export.arrays import FloatArray

Region = tuple[float, ...]
"""A point (x, y) or a box (x_min, y_min, x_max, y_max) in normalized coordinates, which are
fractions of the image's width and height; () where there is none."""


@dataclass(frozen=True)
class Request:
    """A question about images, to be answered greedily."""

    question: str = ""
    images: tuple[Image.Image, ...] = ()
    ids: tuple[int, ...] | None = None
    """The whole prompt as token ids; None: it is made of the question and the images."""
    max_tokens: int = 64
    answer: tuple[int, ...] | None = None
    """Tokens to decode instead of the model's own choices (teacher forcing): exactly these, and a
    stop token among them does not end the answer."""
    arrays: bool = False
    """Whether events carry the images' features and the logits of each token."""
    reuse: bool = True
    """Whether the last request's image features and prompt prefix may be reused."""
    images_key: str = ""
    """Identifies the images: in one session, requests with the same key have the same images.
    "": the session hashes their pixels for every request."""
    features: FloatArray | None = None
    """Image features [image tokens, hidden] to use instead of encoding the images."""
    task: str = ""
    """A task of the model's own, such as detect or point; "": the model's first task. Must be ""
    for models that have none."""
    region: Region = ()
    """The point or box that the task asks about."""


@dataclass(frozen=True)
class Event:
    """A finished step of an answer.

    kind     what exists now                          positions
    prepare  pixel values and prompt ids              prompt length
    image    features of all images, on the host      image tokens
    prefill  the prompt in the key-value cache        computed, without a reused prefix
    token    one more token of the answer             -
    place    one more region, if the answer has some  -
    """

    kind: Literal["prepare", "image", "prefill", "token", "place"]
    positions: int = 0
    reused: bool = False
    """Whether features (image) or a prefix of the prompt (prefill) came from the last request."""
    token: int | None = None
    logits: FloatArray | None = None
    """[vocab]: the distribution that `token` was chosen from; None unless Request.arrays."""
    features: FloatArray | None = None
    """[image tokens, hidden]; None unless Request.arrays."""
    tiles: int = 0
    """Tiles that the vision tower encoded for all images (image)."""
    region: Region = ()
    """The region of a `place` event."""


class Logits(Protocol):
    """Logits [vocab] on any device: a numpy array, or an array that stays where it was computed."""

    def argmax(self) -> Any:
        """The first index of the largest."""

    def copy(self) -> FloatArray:
        """The values in a new array on the host."""


class Session(Protocol):
    """An artifact or a checkpoint loaded into a runtime."""

    def generate(self, request: Request) -> Iterator[Event]:
        """Answer one request. Raises UserError for a request that cannot be answered."""

    def close(self) -> None:
        """Free the runtime's memory; the session cannot be used afterwards."""


class BatchSession(Session, Protocol):
    """A session that can answer several requests at once."""

    def generate_each(self, requests: Sequence[Request]) -> Iterator[tuple[int, Event]]:
        """Answer several requests; yields each event with the index of its request.

        Raises UserError as `generate` does.
        """
