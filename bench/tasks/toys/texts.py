"""Characters to be read: numbers, capital letters and Hangul syllables in fonts, digits by hand.

Fonts: Pillow's own, matplotlib's DejaVu Sans, and NanumGothic of the package koreanize-matplotlib.
Handwriting: scikit-learn's digits, 1,797 of 8 x 8 pixels; the last 360, mostly other writers', are
the test split. NOT aware of shapes.
"""

import zlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bench.tasks.toys.toy import SIDE, Pixels, Question, Split, Thing, Toy

DIGITS = "0123456789"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SYLLABLES = (
    "가나다라마바사아자차카타파하고노도로모보소오조초구"
    "누두루무부수우주기니디리미비시이지강산물불눈달별집"
)
TEST_SHARE = 8  # one text in so many
HANDWRITTEN_TEST = 360
EDGE = 2  # pixels that stay free
OFF_CENTRE = 6  # pixels up or down


def digits(rng: np.random.Generator, split: Split) -> Toy:
    """A number of one to three digits."""
    text = _text(rng, DIGITS, (1, 3), split)
    asked = [Question("what number is this?", text, "digits"), *_parts(text, "digit")]
    return _written(rng, text, (34, 40), ("pillow", "dejavu"), asked)


def letters(rng: np.random.Generator, split: Split) -> Toy:
    """Two to four capital letters, drawn at random: no word helps to guess them."""
    text = _text(rng, LETTERS, (2, 4), split)
    asked = [Question("what is written?", text, "letters"), *_parts(text, "letter")]
    return _written(rng, text, (18, 26), ("pillow", "dejavu"), asked)


def hangul(rng: np.random.Generator, split: Split) -> Toy:
    """One or two of SYLLABLES."""
    text = _text(rng, SYLLABLES, (1, 2), split)
    asked = [Question("what is written in Korean?", text, "hangul"), *_parts(text, "syllable")]
    return _written(rng, text, (26, 30), ("nanum",), asked)


def handwritten(rng: np.random.Generator, split: Split) -> Toy:
    """One digit of scikit-learn's, enlarged."""
    images, names = _handwriting()
    kept = len(images) - HANDWRITTEN_TEST
    number = rng.integers(kept) if split == "train" else kept + rng.integers(HANDWRITTEN_TEST)
    size = tuple(int(n) for n in rng.integers(36, 57, 2))
    left, top = (int(rng.integers(EDGE, SIDE - EDGE - n + 1)) for n in size)
    ink = np.zeros((SIDE, SIDE))
    large = Image.fromarray(images[number]).resize(size, Image.Resampling.BICUBIC)
    ink[top : top + size[1], left : left + size[0]] = np.asarray(large) / 255
    name = str(names[number])
    box = (left, top, left + size[0], top + size[1])
    asked = Question("which digit is written by hand?", name, "handwritten")
    return Toy(_inked(ink, rng), (asked,), (Thing(name, box),))


def is_test(text: str) -> bool:
    """Whether a text of two or more characters belongs to the test split."""
    return zlib.crc32(text.encode()) % TEST_SHARE == 0


def _text(rng: np.random.Generator, alphabet: str, lengths: tuple[int, int], split: Split) -> str:
    length = rng.integers(lengths[0], lengths[1] + 1)
    while True:
        text = "".join(alphabet[n] for n in rng.integers(len(alphabet), size=length))
        if length == 1 or is_test(text) == (split == "test"):
            return text


def _parts(text: str, unit: str) -> list[Question]:
    """Easier questions about the same text."""
    kind = f"{unit}-of-text"
    return [
        Question(f"what is the first {unit}?", text[0], kind),
        Question(f"what is the last {unit}?", text[-1], kind),
        Question(f"how many {unit}s are there?", str(len(text)), kind),
    ]


def _written(
    rng: np.random.Generator,
    text: str,
    sizes: tuple[int, int],
    fonts: tuple[str, ...],
    asked: list[Question],
) -> Toy:
    """Text at about half the height, anywhere from left to right."""
    name, size = fonts[rng.integers(len(fonts))], int(rng.integers(sizes[0], sizes[1] + 1))
    while (font := _font(name, size)).getlength(text) > SIDE - 2 * EDGE:
        size -= 1
    left, top, right, bottom = font.getbbox(text)
    x = int(rng.integers(EDGE, max(EDGE, SIDE - EDGE - (right - left)) + 1))
    y = (SIDE - (bottom - top)) // 2 + int(rng.integers(-OFF_CENTRE, OFF_CENTRE + 1))
    canvas = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(canvas).text((x - left, y - top), text, fill=255, font=font)
    ends = [x - left + font.getlength(text[:n]) for n in range(len(text) + 1)]
    things = tuple(
        Thing(name, (ends[n], y, ends[n + 1], y + bottom - top)) for n, name in enumerate(text)
    )
    return Toy(_inked(np.asarray(canvas) / 255, rng), tuple(asked), things)


def _inked(ink: NDArray[np.float64], rng: np.random.Generator) -> Pixels:
    """A dark colour where there is ink, a light one elsewhere."""
    dark, light = rng.integers(0, 110, 3), rng.integers(215, 256, 3)
    return np.round(light + ink[:, :, None] * (dark - light)).clip(0, 255).astype(np.uint8)


@cache
def _font(name: str, size: int) -> Any:
    if name == "pillow":
        return ImageFont.load_default(size)
    package, folder = {
        "dejavu": ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf"),
        "nanum": ("koreanize_matplotlib", "fonts/NanumGothic.ttf"),
    }[name]
    found = find_spec(package)
    assert found is not None
    assert found.origin is not None
    return ImageFont.truetype(Path(found.origin).parent / folder, size)


@cache
def _handwriting() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images [n, 8, 8] from 0 to 255, and the digits [n]."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.images * 255 / 16).round().astype(np.uint8), found.target
