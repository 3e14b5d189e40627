"""The generation loop of every runtime: prepare, encode images, prefill, decode greedily.

NOT aware of ONNX Runtime, llama.cpp or torch: they are backends (runtimes.session.backend).
"""

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from export.arrays import FloatArray, IntArray
from export.errors import UserError
from runtimes.base import Event, Logits, Region, Request
from runtimes.nvidia import raise_if_out_of_memory
from runtimes.prepare.request import Prepared, Preparer
from runtimes.session.backend import (
    Backend,
    BatchBackend,
    ChoosingBackend,
    Encode,
    Extend,
    ThreadedBackend,
)
from runtimes.session.batch import Steps, generate_batch
from runtimes.session.positions import answer_positions, prompt_positions
from runtimes.session.prefix import PrefixCache
from runtimes.session.regions import RegionBackend, embed_region, generate_regions
from runtimes.session.tiles import Encoded, TileFeatures
from runtimes.threads import ThreadWatch


class GreedySession:
    """A Session that generates answers with a backend, always choosing the most probable token.

    It reuses the features of the last request's images and the cached start of its prompt.
    """

    def __init__(
        self,
        backend: Backend,
        preparer: Preparer,
        stop: tuple[int, ...],
        *,
        has_regions: bool = True,
    ) -> None:
        """`stop`: ids that end an answer. `has_regions`: False if the model has region heads, which
        read and return points and boxes, but this artifact lacks them."""
        self._backend = backend
        self._preparer = preparer
        self._stop = frozenset(stop)
        self._has_regions = has_regions
        self._cache = PrefixCache()
        self._watch: ThreadWatch | None = None

    def adapt(self, watch: ThreadWatch) -> None:
        """Gives threads up as `watch` says, if the backend can (ThreadedSession)."""
        self._watch = watch if isinstance(self._backend, ThreadedBackend) else None

    @property
    def choices(self) -> Mapping[str, str]:
        """Returns what the backend chose by the machine (ChoosingSession)."""
        return self._backend.choices if isinstance(self._backend, ChoosingBackend) else {}

    def generate(self, request: Request) -> Iterator[Event]:
        """Answers one request; yields an Event for each finished step, in order (Session)."""
        steps, result = self._steps(request, self._cache), None
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
                result = self._executed(step)
            except Exception as error:  # libraries report exhausted memory by many exceptions
                raise_if_out_of_memory(str(error), step.activity)
                raise

    def generate_each(self, requests: Sequence[Request]) -> Iterator[tuple[int, Event]]:
        """Answers several requests at once; yields (index of the request, its next event) pairs.

        Images that requests share are encoded once, and so is the start that all prompts share;
        nothing of earlier requests is reused. The session's backend must be a BatchBackend, and the
        requests must ask for text. Raises UserError as `generate` does.
        """
        self._cache.forget_prompt()  # the batch overwrites the key-value cache
        loops = [self._steps(request, PrefixCache()) for request in requests]
        backend = cast(BatchBackend, self._backend)
        return generate_batch(loops, backend, self._preparer.image_token_id)

    def close(self) -> None:
        """Frees the backend's memory."""
        self._backend.close()

    def _executed(self, step: Encode | Extend) -> FloatArray | Logits:
        """Lets the backend execute a step; returns image features or logits."""
        if isinstance(step, Extend):
            result: FloatArray | Logits = self._backend.extend(step)
        else:
            result = self._backend.encode(step.images)
        if self._watch is not None and self._watch.waited():
            cast(ThreadedBackend, self._backend).use_threads(self._watch.threads.count)
        return result

    def _steps(self, request: Request, cache: PrefixCache) -> Steps:
        """Yields one request's events, and the steps whose results must be sent back (Steps)."""
        prepared = self._preparer(request)
        ids = prepared.ids
        self._check_length(prepared, request)
        self._check_regions(prepared)
        yield Event("prepare", positions=len(ids))

        key = prepared.images_key
        if request.features is not None:
            key = f"{key} as {hashlib.sha256(request.features.tobytes()).hexdigest()}"
        features = None
        if request.images:
            features, tiles = yield from self._features(key, prepared, request, cache)
            shown = features if request.arrays else None
            yield Event(
                "image", positions=len(features), reused=not tiles, features=shown, tiles=tiles
            )

        rows = self._with_region(features, prepared.region)
        past = 0
        if request.reuse:
            # A region's placeholders have equal ids whatever the region is, so they end the prefix.
            shared = cache.shared(key, ids, self._preparer.image_token_id)
            past = min(shared, prepared.region_at)
        cache.forget_prompt()  # an interrupted prefill leaves nothing to reuse
        grids = [image.token_grid for image in prepared.images if image.token_grid is not None]
        positions = prompt_positions(ids, self._preparer.image_token_id, grids)
        skipped = int(np.count_nonzero(ids[:past] == self._preparer.image_token_id))
        rest = rows[skipped:] if rows is not None else None
        logits = yield Extend(ids[past:], rest, past, positions[:, past:])
        cache.prompt = (key, ids)
        yield Event("prefill", positions=len(ids) - past, reused=past > 0)
        if _answers_with_text(prepared):
            yield from self._decode(request, logits, positions)
        else:
            yield from self._regions(prepared, logits)

    def _features(
        self, key: str, prepared: Prepared, request: Request, cache: PrefixCache
    ) -> Generator[Encode, Any, Encoded]:
        """Returns the features of the images, and how many tiles were encoded for them.

        Yields an Encode step if there are any. `key` identifies the images.
        """
        known, last = cache.features
        if request.reuse and key == known and last is not None:
            return Encoded(last, 0)
        cache.forget_prompt()  # a backend may free the decoder to make room for the tower
        if request.features is not None:
            found = Encoded(request.features, 0)
        else:
            tiles, kept = (cache.tiles, key) if request.reuse else (TileFeatures(), "")
            apart = self._preparer.tiles_apart
            found = yield from tiles.encode(prepared.images, kept, apart=apart)
        cache.features = (key, found.features)
        return found

    def _decode(self, request: Request, logits: Logits, prompt: IntArray) -> Steps:
        """Yields a token event for each token of the answer, and the Extend steps between them.

        `prompt` [3, n] are the prompt's positions, `logits` [vocab] those of its last one.
        """
        forced, length = request.answer, prompt.shape[1]
        limit = request.max_tokens if forced is None else len(forced)
        positions = answer_positions(prompt, limit)
        for n in range(limit):
            token = self._choice(logits, n) if forced is None else forced[n]
            yield Event("token", token=token, logits=logits.copy() if request.arrays else None)
            if n + 1 == limit or (forced is None and token in self._stop):
                return
            ids = np.array([token], np.int64)
            logits = yield Extend(ids, None, length + n, positions[:, n : n + 1])

    def _choice(self, logits: Logits, index: int) -> int:
        """Returns the most probable token that is allowed at this index of the answer (from 0)."""
        if index and self._preparer.only_first:
            logits = logits.copy()
            logits[list(self._preparer.only_first)] = -np.inf
        return int(logits.argmax())

    def _regions(self, prepared: Prepared, logits: Logits) -> Iterator[Event]:
        placeholder = self._preparer.image_token_id
        assert prepared.task is not None
        assert placeholder is not None
        regions = generate_regions(
            cast(RegionBackend, self._backend),
            logits,
            len(prepared.ids),
            placeholder=placeholder,
            stop=self._stop,
            boxes=prepared.task.answer == "boxes",
            limit=prepared.task.most,
        )
        for region in regions:
            yield Event("place", region=region)

    def _with_region(self, features: FloatArray | None, region: Region) -> FloatArray | None:
        """Returns the rows for all placeholders of a prompt, or None if it has none.

        They are the features of the images, followed by the embeddings of the region.
        """
        if not region:
            return features
        rows = embed_region(cast(RegionBackend, self._backend), region)
        return rows if features is None else np.concatenate([features, rows])

    def _check_length(self, prepared: Prepared, request: Request) -> None:
        """Raises UserError if the prompt and the longest answer together do not fit the context."""
        prompt = len(prepared.ids)
        answer = request.max_tokens if request.answer is None else len(request.answer)
        if not _answers_with_text(prepared):
            answer = 0  # an answer of regions ends where the context does
        if prompt + answer > self._backend.context:
            raise UserError(
                f"the prompt takes {prompt} positions and the answer up to {answer}, but the "
                f"context holds {self._backend.context}; ask for fewer tokens or a smaller image"
            )

    def _check_regions(self, prepared: Prepared) -> None:
        """Raises UserError if a request needs region heads and the artifact has none."""
        needed = prepared.region or not _answers_with_text(prepared)
        if needed and not self._has_regions:
            raise UserError(
                "this artifact has no region heads, so it can neither take nor return points and "
                "boxes; export with --target onnx, or gguf with --layout onnx-vision"
            )


def _answers_with_text(prepared: Prepared) -> bool:
    return prepared.task is None or prepared.task.answer == "text"
