"""Generates images of coloured shapes, with questions about number, cell in a grid, or region."""

from collections.abc import Sequence

import numpy as np

from bench.tasks.scenes.drawing import COLOURS, SHAPES, SIZE, Canvas, background, pick
from bench.tasks.scenes.scene import Asked, Scene, Split, Thing
from runtimes.base import Region

MOST_COUNTED = 6
COUNTING_CELLS = 4
GRID = 8
PERCENT = 100


def counting(rng: np.random.Generator, split: Split, number: int) -> Scene:
    """Draws one to six shapes in at most two colours, which do not touch.

    Three questions ask how many there are: of all, of one shape, of one colour.
    """
    canvas, cell = Canvas(SIZE, background(rng)), SIZE // COUNTING_CELLS
    palette = [pick(rng, tuple(COLOURS)) for _ in range(2)]
    cells = rng.permutation(COUNTING_CELLS**2)[: rng.integers(1, MOST_COUNTED + 1)]
    things = []
    for row, column in (divmod(int(number), COUNTING_CELLS) for number in cells):
        side = int(rng.integers(cell - 6, cell - 2))
        down, right = rng.integers(1, cell - side, 2)
        shape, colour = pick(rng, SHAPES), pick(rng, palette)
        box = _square(column * cell + int(right), row * cell + int(down), side)
        things.append(Thing(f"{colour} {shape}", canvas.shape(shape, colour, box)))
    counted = [thing.name.split() for thing in things]
    colour, shape = pick(rng, palette), pick(rng, SHAPES)
    asked = (
        _count("how many shapes are there?", len(things)),
        _count(f"how many {shape}s are there?", sum(shape in names for names in counted)),
        _count(f"how many {colour} shapes are there?", sum(colour in names for names in counted)),
    )
    return Scene(canvas.image(), tuple(things), asked)


def grid(rng: np.random.Generator, split: Split, number: int) -> Scene:
    """Draws a small shape in a cell of an 8 × 8 grid; the answer is its row and column, from 1."""
    canvas, cell = Canvas(SIZE, background(rng)), SIZE // GRID
    row, column = (int(n) for n in rng.integers(0, GRID, 2))
    shape, colour = pick(rng, SHAPES), pick(rng, tuple(COLOURS))
    box = canvas.shape(shape, colour, _square(column * cell, row * cell, cell))
    question = f"in which row and column of {GRID} is the shape?"
    asked = Asked(question, f"{row + 1} {column + 1}", "grid")
    return Scene(canvas.image(), (Thing(f"{colour} {shape}", box),), (asked,))


def boxes(rng: np.random.Generator, split: Split, number: int) -> Scene:
    """Draws one to three shapes; a question for each asks for its box in percent."""
    return _located(rng, "box")


def points(rng: np.random.Generator, split: Split, number: int) -> Scene:
    """Draws one to three shapes; a question for each asks for a point in it, in percent."""
    return _located(rng, "point")


def _located(rng: np.random.Generator, kind: str) -> Scene:
    """Draws one to three differently named shapes, each in a quarter of the image of its own.

    A question for each asks for its `kind`: `box` or `point`.
    """
    canvas, half = Canvas(SIZE, background(rng)), SIZE // 2
    quarters = rng.permutation(4)[: rng.integers(1, 4)]
    things: dict[str, Thing] = {}
    for row, column in (divmod(int(quarter), 2) for quarter in quarters):
        width, height = (int(n) for n in rng.integers(half // 3, half - 2, 2))
        x, y = int(rng.integers(0, half - width)), int(rng.integers(0, half - height))
        shape, colour = pick(rng, SHAPES), pick(rng, tuple(COLOURS))
        name = f"{colour} {shape}"
        if name not in things:
            left, top = column * half + x, row * half + y
            box = canvas.shape(shape, colour, (left, top, left + width, top + height))
            things[name] = Thing(name, box)
    asked = tuple(_region(thing, kind) for thing in things.values())
    return Scene(canvas.image(), tuple(things.values()), asked)


def _region(thing: Thing, kind: str) -> Asked:
    x_min, y_min, x_max, y_max = thing.box
    centre = ((x_min + x_max) / 2, (y_min + y_max) / 2)
    answer = thing.box if kind == "box" else centre
    words = {"box": "x_min y_min x_max y_max", "point": "x y"}[kind]
    question = f"where is the {thing.name}? {words} in percent"
    return Asked(question, _percent(answer), kind, thing.name, (thing.box,))


def _percent(region: Region) -> str:
    return " ".join(str(round(PERCENT * share)) for share in region)


def _count(question: str, number: int) -> Asked:
    return Asked(question, str(number), "counting")


def _square(left: int, top: int, side: int) -> Sequence[float]:
    return left, top, left + side, top + side
