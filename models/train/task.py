"""What a question-answering task is. NOT aware of any data set, model or tokenizer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "test"]
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


@dataclass(frozen=True)
class Task:
    """A data set, an augmentation under which its answers stay true, and labels of image cells.

    `attributes` are the labels of a cell with their numbers of classes; class 0 is "nothing here".
    `cell_labels(pixels, grid)` gives (grid * grid, attributes) class indices in row-major order.
    """

    examples: Callable[[Split], list[Example]]
    augment: Callable[[Pixels, np.random.Generator], Pixels]
    attributes: dict[str, int]
    cell_labels: Callable[[Pixels, int], NDArray[np.int64]]
