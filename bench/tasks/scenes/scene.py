"""What a made picture is: its pixels, the things in it, what can be asked about them.

NOT aware of how one is drawn, nor of tasks, models or scores.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from runtimes.base import Region

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Thing:
    """Something to see. `box` is (x_min, y_min, x_max, y_max) in shares of the image."""

    name: str
    box: Region


@dataclass(frozen=True)
class Asked:
    """A question with its answer; `subject` and `places` where it asks for a place."""

    question: str
    answer: str
    kind: str
    subject: str = ""
    places: tuple[Region, ...] = ()


@dataclass(frozen=True)
class Scene:
    """One picture and everything known about it."""

    image: Image.Image
    things: tuple[Thing, ...]
    asked: tuple[Asked, ...]


@dataclass(frozen=True)
class Generator:
    """Draws scene after scene.

    `draw(rng, split, number)` may use the number instead of chance where the material is finite
    (then `most` says how many test scenes there are). Other randomness comes from `rng` alone.
    """

    draw: Callable[[np.random.Generator, Split, int], Scene]
    version: int
    """Raised with every change after which equal seeds give other pictures or questions."""
    asked: int | None = 1
    """Questions of each scene; None where that differs."""
    most: int | None = None
