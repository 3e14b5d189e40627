"""A generated image: its pixels, the objects in it, and questions about them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from runtimes.base import Region

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Thing:
    """An object in an image; `box` is (x_min, y_min, x_max, y_max) in normalized coordinates."""

    name: str
    box: Region


@dataclass(frozen=True)
class Asked:
    """A question with its answer; `subject` and `regions` if it asks for a region."""

    question: str
    answer: str
    kind: str
    subject: str = ""
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True)
class Scene:
    """One image with its objects and questions."""

    image: Image.Image
    things: tuple[Thing, ...]
    asked: tuple[Asked, ...]


@dataclass(frozen=True)
class Generator:
    """Draws scene after scene.

    `draw(rng, split, number)` takes all randomness from `rng`. A generator with a finite number of
    images uses `number` instead; then `most` is its number of test scenes.
    """

    draw: Callable[[np.random.Generator, Split, int], Scene]
    version: int
    """Increases with every change after which equal seeds give other images or questions."""
    asked: int | None = 1
    """Number of questions per scene; None if it varies."""
    most: int | None = None
