"""Accuracy on easy-VQA: exact match of the answer's text, lower-cased and stripped.

Questions are grouped by image, so features and the common start of the prompt are reused.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from bench.record import Item, Outcome
from bench.subjects import detokenizer
from bench.tasks import Context
from runtimes.base import Request
from runtimes.prepare import load_image

MAX_TOKENS = 8
# A sample takes so many questions of each image: more would be cheaper (an image is encoded once)
# and less independent.
QUESTIONS_PER_IMAGE = 4


@dataclass(frozen=True)
class Question:
    """One question; `id` is the image's number and the question's place among its questions."""

    id: str
    image_path: str
    text: str
    answer: str


def run(context: Context) -> Outcome:
    """Ask all questions, or a sample of `limit`."""
    options = context.case.options
    text_of = detokenizer(context.loaded)
    context.tell("asking")
    items = []
    for question, image in with_images(sample(questions(), options.limit, options.seed)):
        request = Request(question.text, (image,), max_tokens=MAX_TOKENS)
        events = context.session.generate(request)
        answer = text_of([event.token for event in events if event.token is not None])
        items.append(Item(question.id, answer, answer.strip().lower() == question.answer))
    return Outcome(items=tuple(items))


def questions() -> list[Question]:
    """The test split, image by image in the order of their numbers."""
    import easy_vqa

    paths = easy_vqa.get_test_image_paths()
    of_image: dict[int, list[Question]] = {number: [] for number in sorted(paths)}
    for text, answer, number in zip(*easy_vqa.get_test_questions(), strict=True):
        asked = of_image[number]
        asked.append(Question(f"{number}/{len(asked)}", paths[number], text, answer))
    return [question for asked in of_image.values() for question in asked]


def sample(everything: Sequence[Question], limit: int | None, seed: int) -> list[Question]:
    """`limit` questions, spread over images and equal for equal seeds; all when it is None.

    Images are drawn without replacement, and so are up to QUESTIONS_PER_IMAGE of each one's
    questions; more only when every image was drawn.
    """
    if limit is None or limit >= len(everything):
        return list(everything)
    rng = np.random.default_rng(seed)
    rank = {path: n for n, path in enumerate(sorted({q.image_path for q in everything}))}
    image_order = rng.permutation(len(rank))
    seen: dict[str, int] = {}
    keys = []
    for n in rng.permutation(len(everything)):
        path = everything[n].image_path
        turn = seen[path] = seen.get(path, -1) + 1
        keys.append((turn // QUESTIONS_PER_IMAGE, image_order[rank[path]], turn, n))
    return [everything[n] for *_, n in sorted(sorted(keys)[:limit], key=lambda key: key[-1])]


def with_images(asked: Sequence[Question]) -> Iterator[tuple[Question, Image.Image]]:
    """Questions beside their images, each opened once for neighbouring questions."""
    path, image = "", Image.new("RGB", (1, 1))
    for question in asked:
        if question.image_path != path:
            path, image = question.image_path, load_image(question.image_path)
        yield question, image
