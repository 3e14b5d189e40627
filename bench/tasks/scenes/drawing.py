"""Draws shapes and text, antialiased: they are drawn at four times the size and then reduced."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from runtimes.base import Region

SIZE = 64
SCALE = 4
# easy-VQA's names and values, so that a model can learn both.
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
DARK = ("black", "blue", "brown", "red", "teal")
SHAPES = ("circle", "rectangle", "triangle")
# The package contains NanumGothic (SIL Open Font License). It is located but not imported, because
# importing it changes matplotlib's settings.
HANGUL_PACKAGE = "koreanize_matplotlib"
HANGUL_FILE = "fonts/NanumGothic.ttf"
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Rgb = tuple[int, int, int]


def pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def background(rng: np.random.Generator) -> Rgb:
    """Returns a random light colour."""
    red, green, blue = rng.integers(205, 256, 3)
    return int(red), int(green), int(blue)


class Canvas:
    """A square image to draw on, `size` pixels a side; arguments are in pixels."""

    def __init__(self, size: int, colour: Rgb) -> None:
        self.size = size
        self._large = Image.new("RGB", (size * SCALE, size * SCALE), colour)
        self._draw = ImageDraw.Draw(self._large)

    def shape(self, name: str, colour: str, box: Sequence[float]) -> Region:
        """Draws a shape of SHAPES that fills `box` (left, top, right, bottom), in pixels.

        Returns the box in normalized coordinates.
        """
        left, top, right, bottom = (SCALE * edge for edge in box)
        right, bottom, fill = right - 1, bottom - 1, COLOURS[colour]  # Pillow's ends are inclusive
        if name == "circle":
            self._draw.ellipse((left, top, right, bottom), fill)
        elif name == "rectangle":
            self._draw.rectangle((left, top, right, bottom), fill)
        else:
            self._draw.polygon([((left + right) / 2, top), (left, bottom), (right, bottom)], fill)
        return tuple(edge / self.size for edge in box)

    def text(self, text: str, colour: str, font: Font, corner: Sequence[float]) -> Region:
        """Draws a text so that the top left of its ink is at `corner` (x, y), in pixels.

        Returns the ink's bounding box in normalized coordinates.
        """
        left, top, right, bottom = self._draw.textbbox((0, 0), text, font)
        x, y = (SCALE * edge for edge in corner)
        self._draw.text((x - left, y - top), text, COLOURS[colour], font)
        edges = (x, y, x + right - left, y + bottom - top)
        return tuple(edge / self._large.width for edge in edges)

    def image(self) -> Image.Image:
        return self._large.resize((self.size, self.size), Image.Resampling.BOX)


def extent(text: str, font: Font) -> tuple[float, float]:
    """Returns the width and height of a text's ink in pixels of a Canvas."""
    left, top, right, bottom = font.getbbox(text)
    return (right - left) / SCALE, (bottom - top) / SCALE


def latin_font(pixels: float) -> Font:
    """Returns Pillow's default font at a size in pixels of a Canvas."""
    return ImageFont.load_default(pixels * SCALE)


def hangul_font(pixels: float) -> Font:
    path = hangul_file()
    assert path is not None, "tasks with Hangul are unavailable without it"
    return ImageFont.truetype(path, pixels * SCALE)


def hangul_file() -> Path | None:
    """Returns the path of a font with Hangul; None if the package with it is not installed."""
    spec = find_spec(HANGUL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / HANGUL_FILE
    return path if path.exists() else None
