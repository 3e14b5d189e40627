"""What a task asks: questions beside what is right about them, in a fixed order, opened one by one.

Which of them are asked (a sample, a shard) is decided here, on their pictures' names alone. NOT
aware of models, runtimes or scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from bench.scorers import Gold

# A sample takes so many questions of each image: more would be cheaper (an image is encoded once)
# and less independent.
QUESTIONS_PER_IMAGE = 4


@dataclass(frozen=True)
class LazyImage:
    """An image that is opened when it is needed; `key` is the same for the same image.

    `open` raises UserError, with one line, for an image that cannot be read.
    """

    key: str
    open: Callable[[], Image.Image]


@dataclass(frozen=True)
class Turn:
    """One way of putting a question, whole as the model reads it."""

    text: str
    gold: Gold


@dataclass(frozen=True)
class TaskQuestion:
    """An item of a task. It is right if every turn is: rotated options of one question, say.

    `part` is the subset that figures are also given of. `subject` is what is to be found, for
    models with a task `model_task` of their own, which are asked by that instead of the text.
    """

    id: str
    turns: tuple[Turn, ...]
    pictures: tuple[LazyImage, ...]
    part: str = ""
    subject: str = ""
    model_task: str = ""


class UnusableQuestion(Exception):
    """An item that cannot be asked or scored: the message says where and why."""

    def __init__(self, id_: str, reason: str) -> None:
        super().__init__(reason)
        self.id = id_


@dataclass(frozen=True)
class QuestionSet:
    """All items of a task. `pictures` has the key of each one's first image.

    `question` raises UnusableQuestion for an item that is bad, and for nothing else.
    """

    source: str
    """Where they come from, so that they can be had again."""
    pictures: Sequence[str]
    question: Callable[[int], TaskQuestion]


def chosen(
    pictures: Sequence[str], limit: int | None, seed: int, shard: str | None = None
) -> list[int]:
    """The places of the items that are asked, in their order."""
    found = sample(pictures, limit, seed)
    if shard is None:
        return found
    number, of = shard_of(shard)
    order = {key: n for n, key in enumerate(dict.fromkeys(pictures[place] for place in found))}
    return [place for place in found if order[pictures[place]] % of == number - 1]


def sample(pictures: Sequence[str], limit: int | None, seed: int) -> list[int]:
    """`limit` places, spread over images and equal for equal seeds; all when it is None.

    Images are drawn without replacement, and so are up to QUESTIONS_PER_IMAGE of each one's
    questions; more only when every image was drawn.
    """
    if limit is None or limit >= len(pictures):
        return list(range(len(pictures)))
    rng = np.random.default_rng(seed)
    rank = {key: n for n, key in enumerate(sorted(set(pictures)))}
    image_order = rng.permutation(len(rank))
    seen: dict[str, int] = {}
    keys = []
    for n in rng.permutation(len(pictures)):
        key = pictures[n]
        turn = seen[key] = seen.get(key, -1) + 1
        keys.append((turn // QUESTIONS_PER_IMAGE, image_order[rank[key]], turn, int(n)))
    return sorted(n for *_, n in sorted(keys)[:limit])


def shard_of(text: str) -> tuple[int, int]:
    """Its number, from 1, and how many there are. Raises ValueError."""
    number, _, of = text.partition("/")
    if not 1 <= int(number) <= int(of):
        raise ValueError(text)
    return int(number), int(of)
