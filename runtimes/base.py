"""What a runtime is: a session takes a request and yields events, each when its result is there.

NOT aware of clocks, files of reports, or models' names: a runtime never measures and never prints.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Place = tuple[float, ...]
"""A point (x, y) or a box (x_min, y_min, x_max, y_max), in shares of an image's width and height;
() is none."""


@dataclass(frozen=True)
class Request:
    """A question about images, or exact prompt ids; answered greedily.

    `answer` forces the given tokens instead of the model's own choice (teacher forcing); exactly
    those are decoded, stop tokens included. `arrays` asks for what the steps computed: the images'
    features and the distribution behind each token.
    `reuse` allows image features and a common prompt prefix of the last request to be reused.
    `images_key` names their images' content where the caller knows it: of one session, requests
    with equal keys have equal images. "": it is found from their pixels, every time.
    `features` [image tokens, hidden] are taken as the images' instead of encoding them.
    `task` is one of the model's own (detect, point, …; "": what it does first), for models that
    have some; `place` is what it is asked about.
    """

    question: str = ""
    images: tuple[Image.Image, ...] = ()
    ids: tuple[int, ...] | None = None
    max_tokens: int = 64
    answer: tuple[int, ...] | None = None
    arrays: bool = False
    reuse: bool = True
    images_key: str = ""
    features: FloatArray | None = None
    task: str = ""
    place: Place = ()


@dataclass(frozen=True)
class Event:
    """One finished step of an answer.

    prepare: pixels and prompt ids exist (positions = prompt length); image: features of all images
    are on the host (positions = image tokens, of `tiles` tiles); prefill: the prompt is in the
    cache (positions = how many were computed, fewer than the prompt's when a prefix was reused);
    token: one more token, the first right after prefill; place: one more place, of tasks that
    answer with places. `logits` [vocab] are those that `token` was chosen from, `features`
    [image tokens, hidden] what the images became; both only when asked for.
    """

    kind: Literal["prepare", "image", "prefill", "token", "place"]
    positions: int = 0
    reused: bool = False
    token: int | None = None
    logits: FloatArray | None = None
    features: FloatArray | None = None
    tiles: int = 0
    place: Place = ()


class Logits(Protocol):
    """Logits [vocab], which a backend may leave where they were computed: numpy arrays are some."""

    def argmax(self) -> Any:
        """The first index of the largest."""

    def copy(self) -> FloatArray:
        """Their values, the caller's own."""


class Session(Protocol):
    """An artifact loaded into a runtime."""

    def generate(self, request: Request) -> Iterator[Event]:
        """Answer one request. Raises UserError for a request that cannot be answered."""

    def close(self) -> None:
        """Free the runtime's memory; the session cannot be used afterwards."""


class BatchSession(Session, Protocol):
    """A session that can answer several requests at once."""

    def generate_each(self, requests: Sequence[Request]) -> Iterator[tuple[int, Event]]:
        """The events of each request, with its number. Raises UserError as `generate`."""
