"""Pictures with questions. NOT aware of any data set, model or tokenizer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.tasks.scenes import Thing

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
