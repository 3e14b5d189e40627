"""One to six small coloured shapes, each in a field of its own of an 8 x 8 board.

Asked: how many there are (of a shape, of a colour, in all), in which field one is, what is in a
field. Fields are named like those of chess, from the top left: a1, b1, ... h8. NOT aware of text.
"""

from collections import Counter
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bench.tasks.toys.toy import SIDE, Pixels, Question, Split, Thing, Toy

SHAPES = ("circle", "rectangle", "triangle")
COLOURS = {
    "black": (0, 0, 0),
    "blue": (0, 0, 255),
    "brown": (165, 42, 42),
    "gray": (128, 128, 128),
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "teal": (0, 128, 128),
    "yellow": (255, 255, 0),
}
FIELDS = 8  # along an edge
FIELD = SIDE // FIELDS
MOST = 6
SMALLEST = 6  # pixels along an edge of a shape
LIGHTEST, DARKEST = 255, 225  # of the background
FINE = 8  # shapes are drawn so many times larger and then reduced


def scene(rng: np.random.Generator, split: Split) -> Toy:
    """Both splits are drawn alike."""
    fields = rng.choice(FIELDS**2, size=rng.integers(1, MOST + 1), replace=False)
    pixels = np.full((SIDE, SIDE, 3), rng.integers(DARKEST, LIGHTEST + 1), np.uint8)
    placed = [(int(field), _put(pixels, int(field), rng)) for field in sorted(fields)]
    things = tuple(thing for _, thing in placed)
    asked = (*counting(things), *positions(placed), *contents(placed))
    return Toy(pixels, asked, things)


def counting(things: tuple[Thing, ...]) -> list[Question]:
    """How many there are in all, of each shape and of each colour, those that are not there too."""
    found = Counter([*(thing.name for thing in things), *(thing.colour for thing in things)])
    names = [f"{shape}s" for shape in SHAPES] + [f"{colour} shapes" for colour in COLOURS]
    counts = [found[name] for name in (*SHAPES, *COLOURS)]
    return [
        Question(f"how many {name} are there?", str(count), "counting")
        for name, count in [("shapes", len(things)), *zip(names, counts, strict=True)]
    ]


def positions(placed: list[tuple[int, Thing]]) -> list[Question]:
    """Where each shape is that has no equal."""
    kinds = Counter((thing.name, thing.colour) for _, thing in placed)
    return [
        Question(f"where is the {thing.colour} {thing.name}?", name_of(field), "position")
        for field, thing in placed
        if kinds[thing.name, thing.colour] == 1
    ]


def contents(placed: list[tuple[int, Thing]]) -> list[Question]:
    return [
        Question(f"what is at {name_of(field)}?", f"{thing.colour} {thing.name}", "content")
        for field, thing in placed
    ]


def name_of(field: int) -> str:
    """From the number of a field, row by row."""
    return f"{'abcdefgh'[field % FIELDS]}{field // FIELDS + 1}"


def _put(pixels: Pixels, field: int, rng: np.random.Generator) -> Thing:
    """Draws one shape into a field."""
    shape = SHAPES[rng.integers(len(SHAPES))]
    colour = list(COLOURS)[rng.integers(len(COLOURS))]
    width, height = (int(n) for n in rng.integers(SMALLEST, FIELD + 1, 2))
    if shape == "circle":
        height = width
    left, top = int(rng.integers(FIELD - width + 1)), int(rng.integers(FIELD - height + 1))
    row, column = field // FIELDS * FIELD, field % FIELDS * FIELD
    alpha = _coverage(shape, width, height, left, top)[:, :, None]
    there = pixels[row : row + FIELD, column : column + FIELD]
    there[:] = np.round(alpha * COLOURS[colour] + (1 - alpha) * there)
    x, y = column + left, row + top
    return Thing(shape, (x, y, x + width, y + height), colour)


@cache
def _coverage(shape: str, width: int, height: int, left: int, top: int) -> NDArray[np.float64]:
    """[FIELD, FIELD]: the share of each pixel that the shape covers."""
    large = Image.new("L", (FIELD * FINE, FIELD * FINE))
    box = [n * FINE for n in (left, top, left + width, top + height)]
    box[2:] = [n - 1 for n in box[2:]]  # Pillow draws the last row and column too
    draw = ImageDraw.Draw(large)
    if shape == "circle":
        draw.ellipse(box, fill=255)
    elif shape == "rectangle":
        draw.rectangle(box, fill=255)
    else:
        draw.polygon(
            [(box[0], box[3]), (box[2], box[3]), ((box[0] + box[2]) / 2, box[1])], fill=255
        )
    return np.asarray(large.reduce(FINE)) / 255
