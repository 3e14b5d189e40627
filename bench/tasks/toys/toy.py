"""What a drawn picture is: pixels, questions with answers, and what stands where.

NOT aware of how it is drawn, nor of who is asked.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "test"]
Pixels = NDArray[np.uint8]  # (height, width, 3)
SIDE = 64
"""Pixels along both edges of a picture."""


@dataclass(frozen=True)
class Question:
    text: str
    answer: str
    kind: str


@dataclass(frozen=True)
class Thing:
    """Something in a picture; box: left, top, right, bottom in pixels, the last two outside.

    A shape has a `colour`; a character is its own `name`.
    """

    name: str
    box: tuple[float, float, float, float]
    colour: str = ""


@dataclass(frozen=True)
class Toy:
    pixels: Pixels
    questions: tuple[Question, ...]
    things: tuple[Thing, ...]
