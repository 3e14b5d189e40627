"""The one generation loop: prepare, encode, prefill, decode, over any backend.

NOT aware of ONNX Runtime, llama.cpp or torch: those are backends with two methods.
"""

import hashlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from export.errors import UserError
from export.modeling.vlm import Vlm
from runtimes.base import Event, FloatArray, IntArray, Logits, Place, Request
from runtimes.nvidia import expect_memory
from runtimes.prepare.request import Pixels, Prepared, Preparer
from runtimes.session.positions import following, positions
from runtimes.session.regions import Places, embedded, places

# Room for several tiled images and a long answer; a model's own limit can be many gigabytes.
CONTEXT = 4096


class Backend(Protocol):
    """The arithmetic of one loaded model, with a key-value cache of `context` positions."""

    context: int

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Features of the images, one row per image token: [tokens, hidden]."""

    def extend(
        self,
        ids: IntArray,
        features: FloatArray | None,
        past: int,
        positions: IntArray | None = None,
    ) -> Logits:
        """Append ids after the first `past` ones and return the last one's logits [vocab], which
        the next call may overwrite.

        Image tokens in `ids` take the rows of `features` in order. `positions` [3, n] are the time,
        row and column of each (session/positions.py), for decoders that tell them apart; None:
        text whose positions are its places.
        """

    def close(self) -> None:
        """Free everything."""


class Encode(NamedTuple):
    """What an answer waits for: Backend.encode of these images. Equal keys are equal images whose
    features may be shared; "" is those of no other answer."""

    key: str
    images: tuple[Pixels, ...]

    @property
    def told(self) -> str:
        return "while an image was encoded"


class Extend(NamedTuple):
    """What an answer waits for: Backend.extend with these arguments."""

    ids: IntArray
    features: FloatArray | None
    past: int
    positions: IntArray

    def behind(self, common: int, image_token_id: int | None) -> "Extend":
        """What is left of a prompt when its first `common` positions are cached."""
        features = self.features
        if features is not None:
            features = features[np.count_nonzero(self.ids[:common] == image_token_id) :]
            features = features if len(features) else None
        return Extend(self.ids[common:], features, common, self.positions[:, common:])

    @property
    def told(self) -> str:
        return "while decoding" if self.past and len(self.ids) == 1 else "in the prefill"


Steps = Generator[Event | Encode | Extend, Any, None]
"""An answer that is sent what it waits for, so that several can wait together (batch.py)."""


class BatchBackend(Backend, Protocol):
    """A backend that computes for several sequences at once, each with a cache of its own."""

    def encode_each(self, images: Sequence[tuple[Pixels, ...]]) -> Sequence[FloatArray]:
        """Features of each one's images, as `encode`."""

    def extend_each(self, steps: dict[int, Extend], common: int) -> dict[int, FloatArray]:
        """As `extend`, of the sequences with these numbers: all begin at once, with `past` 0, then
        go on by one id each; one that is left out has ended.

        Where they begin, their first `common` positions are alike, images included; later it is 0.
        """


@dataclass
class Kept:
    """What of the last request can be reused: images by their key, with prompt ids or features."""

    cached: tuple[str, IntArray]
    features: tuple[str, FloatArray | None] = ("", None)


def nothing_kept() -> Kept:
    """Before a first request."""
    return Kept(("", np.zeros(0, np.int64)))


def room(vlm: Vlm, asked: int | None = None) -> int:
    """Positions a session makes room for: as asked, else the model's own limit up to CONTEXT."""
    return asked or min(vlm.text.context, CONTEXT)


class GreedySession:
    """A session that keeps the last images' features and the cache of the last prompt."""

    def __init__(
        self,
        backend: Backend,
        preparer: Preparer,
        stop: tuple[int, ...],
        *,
        places: bool = True,
    ) -> None:
        """`places`: whether the backend has region heads, where the prompt has tasks for them."""
        self._has_places = places
        self._backend = backend
        self._preparer = preparer
        self._stop = frozenset(stop)
        self._kept = nothing_kept()

    def generate(self, request: Request) -> Iterator[Event]:
        """Answer one request (see runtimes.base.Session)."""
        steps, result = self._answer(request, self._kept), None
        while True:
            try:
                step = steps.send(result)
            except StopIteration:
                return
            if isinstance(step, Event):
                result = None
                yield step
                continue
            try:
                result = self._done(step)
            except Exception as error:  # libraries say in many ways that memory ran out
                expect_memory(str(error), step.told)
                raise

    def generate_each(self, requests: Sequence[Request]) -> Iterator[tuple[int, Event]]:
        """Answer several requests at once: the events of each, with its number.

        Equal images are encoded once, and what all prompts begin with is computed once; nothing of
        an earlier prompt is reused. Its backend is a BatchBackend. Raises UserError as `generate`,
        and for tasks that answer with places.
        """
        from runtimes.session.batch import together

        self._kept.cached = nothing_kept().cached  # the cache is the batch's now
        answers = [self._answer(request, nothing_kept()) for request in requests]
        backend = cast(BatchBackend, self._backend)
        return together(answers, backend, self._preparer.image_token_id)

    def _done(self, step: Encode | Extend) -> FloatArray | Logits:
        if isinstance(step, Extend):
            return self._backend.extend(*step)
        return self._backend.encode(step.images)

    def _answer(self, request: Request, kept: Kept) -> Steps:
        prepared = self._preparer(request)
        ids = prepared.ids
        self._check_length(prepared, request)
        self._check_places(prepared)
        yield Event("prepare", positions=len(ids))

        key = prepared.images_key
        if request.features is not None:
            key = f"{key} as {hashlib.sha256(request.features.tobytes()).hexdigest()}"
        features = None
        if request.images:
            features, reused = yield from self._rows(key, prepared, request, kept)
            shown = features if request.arrays else None
            tiles = sum(image.tiles for image in prepared.images)
            yield Event(
                "image", positions=len(features), reused=reused, features=shown, tiles=tiles
            )

        features = self._with_place(features, prepared.place)
        # What a place's positions hold is not told by their ids.
        past = min(self._shared(kept, key, ids), prepared.place_at) if request.reuse else 0
        kept.cached = ("", ids[:0])  # until the prefill is done, the cache matches nothing
        skipped = int(np.count_nonzero(ids[:past] == self._preparer.image_token_id))
        rest = features[skipped:] if features is not None else None
        cells = [image.token_grid for image in prepared.images if image.token_grid is not None]
        where = positions(ids, self._preparer.image_token_id, cells)
        logits = yield Extend(ids[past:], rest, past, where[:, past:])
        kept.cached = (key, ids)
        yield Event("prefill", positions=len(ids) - past, reused=past > 0)
        if prepared.task is None or prepared.task.answer == "text":
            yield from self._decode(request, logits, where)
        else:
            yield from self._places(prepared, logits)

    def _rows(
        self, key: str, prepared: Prepared, request: Request, kept: Kept
    ) -> Generator[Encode, Any, tuple[FloatArray, bool]]:
        """The images' features, and whether they are the last request's."""
        known, last = kept.features
        if request.reuse and key == known and last is not None:
            return last, True
        rows = request.features
        if rows is None:
            kept.cached = nothing_kept().cached  # a backend may give it up to have room
            rows = yield Encode(key if request.reuse else "", prepared.images)
        kept.features = (key, rows)
        return rows, False

    def close(self) -> None:
        """Free the backend's memory."""
        self._backend.close()

    def _decode(self, request: Request, logits: Logits, where: IntArray) -> Steps:
        forced, length = request.answer, where.shape[1]
        limit = request.max_tokens if forced is None else len(forced)
        behind = following(where, limit)
        for n in range(limit):
            token = self._choice(logits, n) if forced is None else forced[n]
            yield Event("token", token=token, logits=logits.copy() if request.arrays else None)
            if n + 1 == limit or (forced is None and token in self._stop):
                return
            ids = np.array([token], np.int64)
            logits = yield Extend(ids, None, length + n, behind[:, n : n + 1])

    def _choice(self, logits: Logits, place: int) -> int:
        if place and self._preparer.never_later:
            logits = logits.copy()
            logits[list(self._preparer.never_later)] = -np.inf
        return int(logits.argmax())

    def _places(self, prepared: Prepared, logits: Logits) -> Iterator[Event]:
        placeholder = self._preparer.image_token_id
        assert prepared.task is not None
        assert placeholder is not None
        found = places(
            cast(Places, self._backend),
            logits,
            len(prepared.ids),
            placeholder=placeholder,
            stop=self._stop,
            sized=prepared.task.answer == "boxes",
            most=prepared.task.most,
        )
        for place in found:
            yield Event("place", place=place)

    def _with_place(self, features: FloatArray | None, place: Place) -> FloatArray | None:
        """The rows for the prompt's placeholders: those of the images, then the place's."""
        if not place:
            return features
        rows = embedded(cast(Places, self._backend), place)
        return rows if features is None else np.concatenate([features, rows])

    def _check_length(self, prepared: Prepared, request: Request) -> None:
        prompt = len(prepared.ids)
        answer = request.max_tokens if request.answer is None else len(request.answer)
        if prepared.task is not None and prepared.task.answer != "text":
            answer = 0  # places end where the context does
        if prompt + answer > self._backend.context:
            raise UserError(
                f"the prompt takes {prompt} positions and the answer up to {answer}, but the "
                f"context holds {self._backend.context}; ask for fewer tokens or a smaller image"
            )

    def _check_places(self, prepared: Prepared) -> None:
        answered = prepared.task is not None and prepared.task.answer != "text"
        if not self._has_places and (answered or prepared.place):
            raise UserError(
                "this artifact has no region heads, so it takes no places and answers with none; "
                "export with --target onnx, or gguf with --layout onnx-vision"
            )

    def _shared(self, kept: Kept, key: str, ids: IntArray) -> int:
        """Positions at the start that the cache already holds; the last one is always computed."""
        cached_key, cached = kept.cached
        if cached_key != key:
            return 0
        return alike(cached, ids, self._preparer.image_token_id)


def alike(before: IntArray, ids: IntArray, image_token_id: int | None) -> int:
    """How many first `ids`, not all, are those before; of an image's tokens all or none.

    An image stays whole, as its positions can have one time, by which a cache forgets them.
    """
    shared = min(len(before), len(ids) - 1)
    same = before[:shared] == ids[:shared]
    past = shared if same.all() else int(same.argmin())
    if not past or ids[past] != image_token_id or ids[past - 1] != image_token_id:
        return past
    text = np.flatnonzero(ids[:past] != image_token_id)
    return int(text[-1]) + 1 if len(text) else 0


def number_images(
    numbers: IntArray,
    ids: IntArray,
    features: FloatArray | None,
    past: int,
    image_token_id: int | None,
    prefix: int = 0,
) -> IntArray:
    """Which image each position belongs to, for decoders whose images see ahead.

    `numbers` [context] is kept by the caller: text is 0, an image's neighbouring tokens share a
    number from 1. New `ids` after the first `past` positions are numbered as `place_features`
    places them; returns the positions so far [past + new]. With a `prefix` (Decoder.prefix) those
    first positions are one image where one is among them, and nothing else is.
    """
    end = past + len(ids)
    numbers[past:end] = 0
    if prefix:
        if features is not None and np.any(ids[: max(0, prefix - past)] == image_token_id):
            numbers[past : min(end, prefix)] = 1
    elif features is not None:
        for row in past + np.flatnonzero(ids == image_token_id)[: len(features)]:
            numbers[row] = (numbers[row - 1] if row else 0) or row + 1
    return numbers[:end]


def place_features(
    embeddings: FloatArray, ids: IntArray, features: FloatArray | None, image_token_id: int | None
) -> None:
    """Overwrite the rows [positions, hidden] of image tokens with `features`, in order.

    Image tokens beyond the features are an answer's own and keep their embedding.
    """
    if features is not None:
        rows = np.flatnonzero(ids == image_token_id)[: len(features)]
        embeddings[rows] = features[: len(rows)]
