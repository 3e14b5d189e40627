"""What a question-answering task is. NOT aware of any data set, model or tokenizer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.tasks.scenes import Split, Thing

Pixels = NDArray[np.uint8]  # (height, width, 3)


@dataclass(frozen=True)
class Question:
    text: str
    answer: str
    kind: str


@dataclass(frozen=True)
class Example:
    pixels: Pixels
    questions: tuple[Question, ...]
    things: tuple[Thing, ...] = ()
    weight: int = 1
    """How often it is seen in one pass over the examples."""
    asked: int = 5
    """How many of its questions are asked each time."""


@dataclass(frozen=True)
class Task:
    """A data set, an augmentation under which its answers stay true, and labels of image cells.

    `attributes(grid)` are the numbers of classes of a cell's labels; class 0 is "nothing here".
    `shown(example, rng)` gives pixels, moved perhaps; `cell_labels(example, pixels, grid)` are
    their labels (grid * grid, attributes) in row-major order. `by_kind`: all kinds of questions
    about an image are asked equally often. Answers of the kinds `spelled` do not become tokens of
    their own. `has_places`: whether it can be asked where a thing of a name is.
    """

    examples: Callable[[Split], list[Example]]
    shown: Callable[[Example, np.random.Generator], Pixels]
    attributes: Callable[[int], list[int]]
    cell_labels: Callable[[Example, Pixels, int], NDArray[np.int64]]
    by_kind: bool = False
    spelled: frozenset[str] = frozenset()
    has_places: Callable[[Example], bool] = lambda example: False
