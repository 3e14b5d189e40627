"""Questions of a task with their right answers, and which of them are asked: a sample, a shard."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from bench.scorers import Gold

# Questions of one image in a sample: more would be faster (an image is encoded once), but less
# independent.
QUESTIONS_PER_IMAGE = 4


@dataclass(frozen=True)
class LazyImage:
    """An image that is opened when it is needed; equal images have equal keys.

    `open` raises UserError for an image that cannot be read.
    """

    key: str
    open: Callable[[], Image.Image]


@dataclass(frozen=True)
class Turn:
    """One wording of a question, complete as the model reads it, with its right answers."""

    text: str
    gold: Gold


@dataclass(frozen=True)
class TaskQuestion:
    """An item of a task; it is right if every turn is, for example every rotation of its options.

    `part` is a subset that reports also show. A model with the task `model_task` (for example
    Moondream's detect) is asked for `subject` by that task instead of the text.
    """

    id: str
    turns: tuple[Turn, ...]
    pictures: tuple[LazyImage, ...]
    part: str = ""
    subject: str = ""
    model_task: str = ""


class UnusableQuestion(Exception):
    """An item that cannot be asked or scored; the message has the location and the reason."""

    def __init__(self, id_: str, reason: str) -> None:
        super().__init__(reason)
        self.id = id_


@dataclass(frozen=True)
class QuestionSet:
    """All items of a task. `pictures` has the key of each item's first image.

    `question(index)` raises UnusableQuestion for a bad item.
    """

    source: str
    """Name and version of the data, to obtain the same questions again."""
    pictures: Sequence[str]
    question: Callable[[int], TaskQuestion]


def chosen(
    pictures: Sequence[str], limit: int | None, seed: int, shard: str | None = None
) -> list[int]:
    """Sorted indices of the items that are asked."""
    indices = sample(pictures, limit, seed)
    if shard is None:
        return indices
    number, of = shard_of(shard)
    order = {key: n for n, key in enumerate(dict.fromkeys(pictures[index] for index in indices))}
    return [index for index in indices if order[pictures[index]] % of == number - 1]


def sample(pictures: Sequence[str], limit: int | None, seed: int) -> list[int]:
    """`limit` sorted indices, spread over images, equal for equal seeds; all if it is None.

    Images are drawn without replacement, with up to QUESTIONS_PER_IMAGE questions each; more only
    after every image was drawn.
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
    """The number of a shard, from 1, and of all shards. Raises ValueError."""
    number, _, of = text.partition("/")
    if not 1 <= int(number) <= int(of):
        raise ValueError(text)
    return int(number), int(of)
