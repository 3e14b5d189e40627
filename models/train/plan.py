"""What each step of a pooled course shows, and how fast it learns: drawn ahead from one seed.

NOT aware of models or devices.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.train import toys
from models.train.pool import BOXES, COUNTS, NAMES, NONE, Pool

QUESTIONS = 4
"""Asked about a picture at a time."""
ABSENT = 0.2  # share of questions for the place of something that is not there
WORDS = tuple(kind for kind in COUNTS if kind != BOXES)
# Yes and no take shape, colour and logic: asked more often than what colour it is. Parts of a text
# are only to learn from.
KIND_WEIGHT = {"yes-no": 2.0, toys.PART: 0.6}


@dataclass(frozen=True)
class Recipe:
    """Steps of a whole course; the first `label_share` of them learn labels of cells alone.

    The rate of each part falls linearly: from 1 to a tenth, then from `answer_peak` to 0.
    """

    steps: int
    batch: int = 512
    placed_batch: int = 256
    label_share: float = 0.12
    answer_peak: float = 0.5
    label_weight: float = 1.0
    place_weight: float = 0.5
    warm_up: int = 50


@dataclass(frozen=True)
class Plan:
    """Indices of pictures (steps, batch) and of their questions (steps, batch, QUESTIONS); then
    of pictures to find things in (steps, placed), what to find in them, as an index of NAMES, and
    as which of the picture's things (NONE: not there), both (steps, placed, QUESTIONS), and
    whether its box is wanted or a point.

    `rates` (steps,) and `answer_weights` (steps,), which are 0 while labels alone are learnt.
    """

    pictures: NDArray[np.int64]
    asked: NDArray[np.int64]
    placed: NDArray[np.int64]
    subjects: NDArray[np.int64]
    things: NDArray[np.int64]
    sized: NDArray[np.bool_]
    rates: NDArray[np.float32]
    answer_weights: NDArray[np.float32]


def drawn(pool: Pool, recipe: Recipe, seed: int, has_places: bool) -> Plan:
    rng = np.random.default_rng(seed)
    pictures = _in_turn(pool.of_kinds(WORDS), (recipe.steps, recipe.batch), rng)
    asked = _questions(pool, pictures, rng)
    shape = (recipe.steps, recipe.placed_batch if has_places else 0)
    placed = _in_turn(pool.of_kinds((BOXES,)), shape, rng)
    subjects, things = _subjects(pool, placed, rng)
    sized = rng.random(subjects.shape) < 0.5
    return Plan(pictures, asked, placed, subjects, things, sized, *_rates(recipe))


def chances(pool: Pool) -> NDArray[np.float64]:
    """Probability of each of a picture's questions, (N, most).

    The rarer the answer among its text's, the higher: drawn evenly, "is there a red shape?" is
    answered "no" in eight of nine pictures, and so it would be by the model. Kinds of questions
    have shares by KIND_WEIGHT.
    """
    kinds = [question.kind for question in pool.questions]
    is_asked = pool.asked != NONE
    counts = np.bincount(pool.asked[is_asked], minlength=len(kinds))
    rarity = is_asked / np.maximum(1, counts[pool.asked])
    kind_of = np.array(kinds)[pool.asked]
    for kind in set(kinds):
        of_kind = is_asked & (kind_of == kind)
        total = np.where(of_kind, rarity, 0).sum(axis=1, keepdims=True)
        share = KIND_WEIGHT.get(kind, 1.0) / np.where(total, total, 1)
        rarity = np.where(of_kind, rarity * share, rarity)
    return rarity / rarity.sum(axis=1, keepdims=True)


def _questions(
    pool: Pool, pictures: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    ends = chances(pool).cumsum(axis=1)
    ends[:, -1] = 1.0
    found = np.empty((*pictures.shape, QUESTIONS), np.int64)
    for row, some in enumerate(pictures):
        chance = rng.random((len(some), QUESTIONS, 1))
        # Rounding may leave the sum of what can be asked just under 1.
        columns = (chance > ends[some][:, None]).sum(axis=2)
        last = (pool.asked[some] != NONE).sum(axis=1, keepdims=True) - 1
        found[row] = pool.asked[some[:, None], np.minimum(columns, last)]
    return found


def _subjects(
    pool: Pool, placed: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What to look for, and which of the picture's things it is."""
    named = pool.named[placed]  # (steps, placed, MOST_THINGS)
    shape = (*placed.shape, QUESTIONS)
    columns = np.floor(rng.random(shape) * (named != NONE).sum(-1, keepdims=True)).astype(np.int64)
    there = np.take_along_axis(named, columns, axis=-1)
    other = rng.integers(len(NAMES), size=shape)
    is_absent = (other[..., None] != named[..., None, :]).all(-1) & (rng.random(shape) < ABSENT)
    return np.where(is_absent, other, there), np.where(is_absent, NONE, columns)


def _in_turn(
    pictures: NDArray[np.int64], shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Every one once before any comes again."""
    rounds = -(-shape[0] * shape[1] // len(pictures))
    order = [rng.permutation(pictures) for _ in range(rounds)] or [pictures[:0]]
    return np.concatenate(order)[: shape[0] * shape[1]].reshape(shape)


def _rates(recipe: Recipe) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    labels = round(recipe.label_share * recipe.steps)
    step = np.arange(recipe.steps)
    learns_answers = step >= labels
    since = np.where(learns_answers, step - labels, step)
    lasts = np.where(learns_answers, recipe.steps - labels, labels)
    floor = np.where(learns_answers, 0.0, 0.1)
    rate = np.minimum((since + 1) / recipe.warm_up, 1 - (1 - floor) * since / np.maximum(1, lasts))
    rate *= np.where(learns_answers, recipe.answer_peak, 1.0)
    return rate.astype(np.float32), learns_answers.astype(np.float32)
