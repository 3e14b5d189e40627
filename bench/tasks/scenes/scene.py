"""Data classes of a generated image: its pixels, the objects in it, and questions about them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from runtimes.base import Region

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Thing:
    """An object in a generated image, such as a `red circle`.

    `box` is (x_min, y_min, x_max, y_max) in normalized coordinates.
    """

    name: str
    box: Region


@dataclass(frozen=True)
class Asked:
    """A question about a generated image, with its right answer; `kind` is the type of question.

    If it asks for a place, `subject` names the object and `regions` are the accepted boxes.
    """

    question: str
    answer: str
    kind: str
    subject: str = ""
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True)
class Scene:
    """A generated image with the objects in it and the questions asked about it."""

    image: Image.Image
    things: tuple[Thing, ...]
    asked: tuple[Asked, ...]


@dataclass(frozen=True)
class Generator:
    """A generator of one kind of images with questions.

    `draw(rng, split, number)` makes one scene, with all randomness from `rng`. A generator with a
    finite number of images uses `number` instead; then `most` is its number of test scenes (None:
    unlimited). `asked` is the number of questions per scene; None: it varies. `version` increases
    with every change after which equal seeds give other images or questions.
    """

    draw: Callable[[np.random.Generator, Split, int], Scene]
    version: int
    asked: int | None = 1
    most: int | None = None
