"""Runs the generation loops of several requests together, so that steps can be batched."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from export.arrays import FloatArray, IntArray
from runtimes.base import Event
from runtimes.nvidia import raise_if_out_of_memory
from runtimes.session.backend import BatchBackend, Encode, Extend
from runtimes.session.prefix import common_prefix

Steps = Generator[Event | Encode | Extend, Any, None]
"""The generation loop of one request: it yields events, and steps for a backend (Encode, Extend),
whose results are sent back to it."""


def generate_batch(
    loops: Sequence[Steps], backend: BatchBackend, image_token_id: int | None
) -> Iterator[tuple[int, Event]]:
    """Runs the loops of several requests; yields (index of the loop, its next event) pairs.

    Images that several requests share are encoded once. All images are encoded before the first
    decoder step. So all prompts are prefilled together, their common start once, and afterwards
    each decoder step appends one token to every answer.
    """
    results: dict[int, FloatArray | None] = dict.fromkeys(range(len(loops)))
    waiting: dict[int, Encode | Extend] = {}
    while results or waiting:
        for number, result in results.items():
            step = _advance(loops[number], result)
            while isinstance(step, Event):
                yield number, step
                step = _advance(loops[number], None)
            if step is not None:
                waiting[number] = step
        results = _executed(waiting, backend, image_token_id) if waiting else {}
        for number in results:
            del waiting[number]


def _advance(loop: Steps, result: FloatArray | None) -> Event | Encode | Extend | None:
    """Sends a step's result to a loop; returns what it yields next, None if it has ended."""
    try:
        return loop.send(result)
    except StopIteration:
        return None


def _executed(
    waiting: Mapping[int, Encode | Extend], backend: BatchBackend, image_token_id: int | None
) -> dict[int, FloatArray | None]:
    """Returns the results of all waiting Encode steps, or, if there are none, of all Extend steps.

    Keys are the indices of the loops.
    """
    encodes = {n: step for n, step in waiting.items() if isinstance(step, Encode)}
    extends = {n: step for n, step in waiting.items() if isinstance(step, Extend)}
    try:
        if not encodes:
            return {**backend.extend_each(extends, _common([*extends.values()], image_token_id))}
        images = {step.key or n: step.images for n, step in encodes.items()}
        rows = dict(zip(images, backend.encode_each([*images.values()]), strict=True))
        return {n: rows[step.key or n] for n, step in encodes.items()}
    except Exception as error:  # libraries report exhausted memory by many exceptions
        raise_if_out_of_memory(str(error), next(iter(waiting.values())).activity)
        raise


def _common(steps: Sequence[Extend], image_token_id: int | None) -> int:
    """Returns how many positions at the start of all prompts are equal, images included.

    After the prefill, and for a single prompt, that is 0.
    """
    first, *others = steps
    if first.past or not others:
        return 0
    length = len(first.ids)
    for step in others:
        length = min(length, common_prefix(first.ids[:length], step.ids, image_token_id))
        if not _equal(first.features, step.features):
            length = min(length, _before_images(step.ids, image_token_id))
    return common_prefix(first.ids[:length], first.ids, image_token_id)


def _equal(features: FloatArray | None, others: FloatArray | None) -> bool:
    if features is None or others is None:
        return features is others
    return features is others or np.array_equal(features, others)


def _before_images(ids: IntArray, image_token_id: int | None) -> int:
    image = ids == image_token_id
    return int(image.argmax()) if image.any() else len(ids)
