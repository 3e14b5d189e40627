"""easy-VQA and pictures of bench.tasks.scenes as what is learnt from, with labels of their fields.

NOT aware of models or tokenizers.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bench.tasks.scenes import Scene, Thing
from bench.tasks.scenes.drawing import COLOURS, SHAPES, latin_font
from bench.tasks.scenes.text import CONSONANTS, VOWELS
from models.train import easy_vqa
from models.train.task import Example, Pixels, Question

PART = "part of a text"
"""The kind of questions that are only for learning."""
FIELDS = 8  # along an edge: what has labels of its own
LETTERS = "".join(sorted("0123456789" + CONSONANTS + VOWELS))
CLASSES = (1 + len(SHAPES), 1 + len(COLOURS), 1 + len(LETTERS), 20, 22, 29)
"""Of a field's shape, colour, letter or digit, initial, medial and final letter of a syllable."""
FAR = 5  # pixels by which handwriting is moved


def example(scene: Scene) -> Example:
    # Where something is is asked as a place, not in words.
    questions = [
        Question(one.question, one.answer, one.kind) for one in scene.asked if not one.regions
    ]
    if not questions:
        questions = [Question("how many shapes are there?", str(len(scene.things)), "counting")]
    if scene.asked[0].kind in ("digits", "latin", "hangul"):
        questions += _parts(questions[0].answer)
    return Example(np.asarray(scene.image), tuple(questions), scene.things)


def _parts(text: str) -> Iterator[Question]:
    """Easier questions about a text, only to learn from."""
    for place, part in (("first", text[0]), ("last", text[-1])):
        yield Question(f"what is written {place}?", part, PART)
    yield Question("how many letters are written?", str(len(text)), PART)


def shown(example: Example, rng: np.random.Generator) -> Pixels:
    """easy-VQA's object and handwriting are moved; all else is as varied as it gets."""
    if not example.things:
        return easy_vqa.augment(example.pixels, rng)
    if example.questions[0].kind != "handwritten":
        return example.pixels
    down, right = rng.integers(0, 2 * FAR + 1, 2)
    side = len(example.pixels)
    wide = np.pad(example.pixels, ((FAR, FAR), (FAR, FAR), (0, 0)), mode="edge")
    return wide[down : down + side, right : right + side]


def seen_labels(example: Example, pixels: Pixels) -> NDArray[np.int64]:
    """As `field_labels`; easy-VQA's are read off the pixels as they are shown."""
    if example.things:
        return field_labels(example.things)
    seen = easy_vqa.cell_labels(pixels, FIELDS)
    return np.pad(seen, ((0, 0), (0, len(CLASSES) - 2))).reshape(FIELDS, FIELDS, -1)


def field_labels(things: tuple[Thing, ...]) -> NDArray[np.int64]:
    """(FIELDS, FIELDS, CLASSES): of the thing whose box holds a field's middle."""
    labels = np.zeros((FIELDS, FIELDS, len(CLASSES)), np.int64)
    for left, top, right, bottom, classes in _labelled(things):
        rows, columns = _fields(top, bottom), _fields(left, right)
        labels[rows, columns] = classes
    return labels


def _labelled(
    things: tuple[Thing, ...],
) -> Iterator[tuple[float, float, float, float, list[int]]]:
    """Boxes in shares, and their classes; a text's are those of its letters."""
    for thing in things:
        left, top, right, bottom = thing.box
        colour, _, shape = thing.name.partition(" ")
        if shape:
            classes = [1 + SHAPES.index(shape), 1 + list(COLOURS).index(colour), 0, 0, 0, 0]
            yield left, top, right, bottom, classes
            continue
        font = latin_font(16)
        ends = [font.getlength(thing.name[:n]) for n in range(len(thing.name) + 1)]
        edges = [left + (right - left) * end / ends[-1] for end in ends]
        for n, letter in enumerate(thing.name):
            yield edges[n], top, edges[n + 1], bottom, _letter_classes(letter)


def _letter_classes(letter: str) -> list[int]:
    """Of a digit or letter, or of the three letters of a syllable (Unicode, chapter 3.12)."""
    if letter in LETTERS:
        return [0, 0, 1 + LETTERS.index(letter), 0, 0, 0]
    place = ord(letter) - 0xAC00
    return [0, 0, 0, 1 + place // 588, 1 + place // 28 % 21, 1 + place % 28]


def _fields(first: float, last: float) -> slice:
    """Those whose middle lies between two edges, at least one."""
    middle = min(FIELDS - 1, int((first + last) / 2 * FIELDS))
    low, high = round(first * FIELDS), round(last * FIELDS)
    return slice(min(low, middle), max(high, middle + 1))
