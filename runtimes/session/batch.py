"""Several answers in step: what they wait for at once is computed at once.

NOT aware of questions or of how a cache is kept: an answer is a generator of steps
(runtimes.session.loop.Steps).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from runtimes.base import Event, FloatArray, IntArray
from runtimes.nvidia import expect_memory
from runtimes.session.loop import BatchBackend, Encode, Extend, Steps, alike


def together(
    answers: Sequence[Steps], backend: BatchBackend, image_token_id: int | None
) -> Iterator[tuple[int, Event]]:
    """The events of all answers, each with its answer's number; equal images are encoded once.

    Nothing is extended while an image is still to be encoded, so all prompts are one step, whose
    common beginning is computed once, and so are the tokens behind them.
    """
    results: dict[int, FloatArray | None] = dict.fromkeys(range(len(answers)))
    waiting: dict[int, Encode | Extend] = {}
    while results or waiting:
        for number, result in results.items():
            step = _next(answers[number], result)
            while isinstance(step, Event):
                yield number, step
                step = _next(answers[number], None)
            if step is not None:
                waiting[number] = step
        results = _done(waiting, backend, image_token_id) if waiting else {}
        for number in results:
            del waiting[number]


def _next(answer: Steps, result: FloatArray | None) -> Event | Encode | Extend | None:
    try:
        return answer.send(result)
    except StopIteration:
        return None


def _done(
    waiting: Mapping[int, Encode | Extend], backend: BatchBackend, image_token_id: int | None
) -> dict[int, FloatArray | None]:
    """All that can be done at once: images where there are some, else the next positions."""
    encodes = {n: step for n, step in waiting.items() if isinstance(step, Encode)}
    extends = {n: step for n, step in waiting.items() if isinstance(step, Extend)}
    try:
        if not encodes:
            return {**backend.extend_each(extends, _common([*extends.values()], image_token_id))}
        images = {step.key or n: step.images for n, step in encodes.items()}
        rows = dict(zip(images, backend.encode_each([*images.values()]), strict=True))
        return {n: rows[step.key or n] for n, step in encodes.items()}
    except Exception as error:  # libraries say in many ways that memory ran out
        expect_memory(str(error), next(iter(waiting.values())).told)
        raise


def _common(steps: Sequence[Extend], image_token_id: int | None) -> int:
    """How many first positions of the prompts are alike, images included; 0 behind prompts."""
    first, *others = steps
    if first.past or not others:
        return 0
    found = len(first.ids)
    for step in others:
        found = min(found, alike(first.ids[:found], step.ids, image_token_id))
        if not _equal(first.features, step.features):
            found = min(found, _before_images(step.ids, image_token_id))
    return alike(first.ids[:found], first.ids, image_token_id)


def _equal(features: FloatArray | None, others: FloatArray | None) -> bool:
    if features is None or others is None:
        return features is others
    return features is others or np.array_equal(features, others)


def _before_images(ids: IntArray, image_token_id: int | None) -> int:
    image = ids == image_token_id
    return int(image.argmax()) if image.any() else len(ids)
