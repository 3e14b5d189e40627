"""Questions of a task with their right answers, and the choice of a sample or shard of them."""

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
    """An image that `open` reads when it is needed; equal images have equal keys.

    `open` raises UserError for an image that cannot be read.
    """

    key: str
    open: Callable[[], Image.Image]


@dataclass(frozen=True)
class Turn:
    """One complete text of a question, as it is put to the model, with the right answers to it."""

    text: str
    gold: Gold


@dataclass(frozen=True)
class TaskQuestion:
    """One question of a task, about one or more images.

    It has several `turns` if it is asked several times, for example with the options rotated; then
    it counts as right only if every turn is. `part` names the subset that it belongs to. A model
    with a built-in task `model_task` (such as Moondream's `detect`) gets `subject`, the object to
    find, instead of the text.
    """

    id: str
    turns: tuple[Turn, ...]
    pictures: tuple[LazyImage, ...]
    part: str = ""
    subject: str = ""
    model_task: str = ""


class UnusableQuestion(Exception):
    """A question that cannot be asked or scored; the message says where it is and why."""

    def __init__(self, id_: str, reason: str) -> None:
        super().__init__(reason)
        self.id = id_


@dataclass(frozen=True)
class QuestionSet:
    """All questions of a task, read one by one.

    `source` is name and version of the data. `pictures` has the key of each question's first image,
    so its length is the number of questions. `question(index)` reads one; it raises
    UnusableQuestion if that cannot be used.
    """

    source: str
    """Name and version of the data, to obtain the same questions again."""
    pictures: Sequence[str]
    question: Callable[[int], TaskQuestion]


def chosen(
    pictures: Sequence[str], limit: int | None, seed: int, shard: str | None = None
) -> list[int]:
    """Returns the sorted indices of the questions to ask: a random sample, or a shard of it.

    `pictures` has the image key of each question; `limit` is the size of the sample (None: all).
    `shard`, such as `1/4`, takes the first of four parts, keeping questions of one image together.
    """
    indices = sample(pictures, limit, seed)
    if shard is None:
        return indices
    number, of = shard_of(shard)
    order = {key: n for n, key in enumerate(dict.fromkeys(pictures[index] for index in indices))}
    return [index for index in indices if order[pictures[index]] % of == number - 1]


def sample(pictures: Sequence[str], limit: int | None, seed: int) -> list[int]:
    """Returns `limit` sorted indices of questions, spread over images; all if `limit` is None.

    `pictures` has the image key of each question. Equal seeds give equal samples.
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
    """Parses a shard: `1/4` gives (1, 4). Raises ValueError for anything else."""
    number, _, of = text.partition("/")
    if not 1 <= int(number) <= int(of):
        raise ValueError(text)
    return int(number), int(of)
