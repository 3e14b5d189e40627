"""Several tasks in one: easy-VQA and the pictures of bench.tasks.toys, every cell labelled.

NOT aware of models or tokenizers.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bench.tasks.toys import toy
from bench.tasks.toys.scenes import COLOURS, FIELD, FIELDS, SHAPES
from bench.tasks.toys.texts import DIGITS, LETTERS, SYLLABLES
from bench.tasks.toys.toy import Pixels, Split, Thing
from models.train import easy_vqa
from models.train.task import Example

# How many pictures of each kind; easy-VQA's 4,000 train images are seen so many times a pass.
TRAIN = {"scenes": 14000, "digits": 6000, "letters": 9000, "hangul": 6000, "handwritten": 4000}
ASKED = {"scenes": 6, "digits": 2, "letters": 2, "hangul": 2, "handwritten": 1}
EASY_VQA_WEIGHT = 2
TEST = 1000
CHARACTERS = DIGITS + LETTERS + SYLLABLES
CLASSES = [1 + len(SHAPES), 1 + len(COLOURS), 1 + len(CHARACTERS)]


def examples(split: Split) -> list[Example]:
    """All tasks', shuffled."""
    weight = EASY_VQA_WEIGHT if split == "train" else 1
    found = [
        Example(example.pixels, example.questions, weight=weight)
        for example in easy_vqa.examples(split)
    ]
    for name, count in TRAIN.items():
        found += drawn(name, split, count if split == "train" else TEST)
    order = np.random.default_rng(0).permutation(len(found))
    return [found[n] for n in order]


def drawn(name: str, split: Split, count: int) -> Iterator[Example]:
    for index in range(count):
        item = toy(name, split, index)
        yield Example(item.pixels, item.questions, item.things, asked=ASKED[name])


def shown(example: Example, rng: np.random.Generator) -> Pixels:
    """easy-VQA's object is moved; what is drawn here is as varied as it gets."""
    return example.pixels if example.things else easy_vqa.augment(example.pixels, rng)


def attributes(grid: int) -> list[int]:
    return CLASSES * (FIELDS // grid) ** 2


def cell_labels(example: Example, pixels: Pixels, grid: int) -> NDArray[np.int64]:
    """(grid * grid, fields of a cell * 3): shape, colour and character in each of its fields."""
    if example.things:
        fields = labels_of(example.things)
    else:
        seen = easy_vqa.cell_labels(pixels, FIELDS)
        fields = np.pad(seen, ((0, 0), (0, 1))).reshape(FIELDS, FIELDS, -1)
    part = FIELDS // grid
    cut = fields.reshape(grid, part, grid, part, -1).swapaxes(1, 2)
    return cut.reshape(grid * grid, -1)


def labels_of(things: tuple[Thing, ...]) -> NDArray[np.int64]:
    """(FIELDS, FIELDS, 3): of the thing whose box holds a field's middle, or the only one in it."""
    labels = np.zeros((FIELDS, FIELDS, len(CLASSES)), np.int64)
    for thing in things:
        left, top, right, bottom = thing.box
        rows, columns = _fields(top, bottom), _fields(left, right)
        labels[rows, columns] = _classes(thing)
    return labels


def _fields(first: float, last: float) -> slice:
    """Those whose middle lies between, at least the one around the middle of both."""
    middle = int((first + last) / 2 / FIELD)
    low, high = round(first / FIELD), round(last / FIELD)
    return slice(min(low, middle), max(high, middle + 1))


def _classes(thing: Thing) -> list[int]:
    if thing.colour:
        return [1 + SHAPES.index(thing.name), 1 + list(COLOURS).index(thing.colour), 0]
    return [0, 0, 1 + CHARACTERS.index(thing.name)]
