"""Generates images of text: large digits, handwritten digits, made-up words, pages of real words.

Made-up words and numbers of several digits in the test split are never drawn for training.
"""

from collections.abc import Callable
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.tasks.scenes import words
from bench.tasks.scenes.drawing import (
    DARK,
    SIZE,
    Canvas,
    Font,
    background,
    extent,
    hangul_font,
    latin_font,
    pick,
)
from bench.tasks.scenes.scene import Asked, Scene, Split, Thing

HELD_OUT = 5  # one word in five is in the test split
PAGE, LINES, WORDS_A_LINE = 448, 6, 2
HANDWRITTEN_TESTED = 360
HANDWRITTEN_WHITE = 16.0  # scikit-learn's pixels are 0 to 16
CONSONANTS, VOWELS = "bdfgklmnprst", "aeiou"
# Indices of letters in Unicode's tables of Hangul (chapter 3.12): 19 initials, 21 medials, 28
# finals, where 0 is none.
INITIALS, MEDIALS, FINALS = (0, 2, 3, 5, 6, 7, 9, 12, 18), (0, 4, 8, 13, 18, 20), (0, 4, 8, 16, 21)


def digits(rng: np.random.Generator, split: Split, number: int) -> Scene:
    """Draws a number of one to three large digits; the question asks for it.

    Numbers of two or three digits are in either the training or the test split, single digits in
    both.
    """

    def drawn() -> str:
        length = int(rng.integers(1, 4))
        return str(rng.integers(10 ** (length - 1) if length > 1 else 0, 10**length))

    text = _of_split(drawn, split, always=lambda text: len(text) == 1)
    return _large(rng, text, latin_font, "what number is shown?", "digits")


def handwritten(rng: np.random.Generator, split: Split, number: int) -> Scene:
    """Shows one of scikit-learn's handwritten digits (UCI's, 8 by 8 pixels), enlarged.

    The test split is a fixed 360 of the 1,797, of which `number` selects one; for training, one of
    the others is drawn at random.
    """
    images, labels = _handwritten(split)
    index = number % len(images) if split == "test" else int(rng.integers(len(images)))
    ink = 255 * (1 - images[index] / HANDWRITTEN_WHITE)
    image = Image.fromarray(ink.astype(np.uint8)).convert("RGB")
    label = str(labels[index])
    asked = Asked("which digit is written?", label, "handwritten")
    large = image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return Scene(large, (Thing(label, (0.0, 0.0, 1.0, 1.0)),), (asked,))


def latin(rng: np.random.Generator, split: Split, number: int) -> Scene:
    """Draws a made-up Latin word of three to five letters, which cannot be guessed."""

    def drawn() -> str:
        kinds = (CONSONANTS, VOWELS)
        return "".join(pick(rng, kinds[n % 2]) for n in range(rng.integers(3, 6)))

    return _large(rng, _of_split(drawn, split), latin_font, "what word is written?", "latin")


def hangul(rng: np.random.Generator, split: Split, number: int) -> Scene:
    """Draws one or two Hangul syllables made of frequent letters; the question asks for them."""

    def drawn() -> str:
        return "".join(_syllable(rng) for _ in range(rng.integers(1, 3)))

    return _large(rng, _of_split(drawn, split), hangul_font, "what word is written?", "hangul")


def english_page(rng: np.random.Generator, split: Split, number: int) -> Scene:
    """Draws a page of six lines of two English words; a question asks for one line."""
    question = "What is written on line {line}? Answer with its words only."
    return _page(rng, words.ENGLISH, latin_font, question)


def korean_page(rng: np.random.Generator, split: Split, number: int) -> Scene:
    """Draws a page of six lines of two Korean words; a question in Korean asks for one line."""
    question = "{line}번째 줄에 무엇이라고 쓰여 있습니까? 그 줄의 단어만 답하십시오."
    return _page(rng, words.KOREAN, hangul_font, question)


def _of_split(
    drawn: Callable[[], str], split: Split, always: Callable[[str], bool] = lambda text: False
) -> str:
    while True:
        text = drawn()
        if always(text) or (crc32(text.encode()) % HELD_OUT == 0) == (split == "test"):
            return text


def _large(
    rng: np.random.Generator, text: str, font_of: Callable[[float], Font], question: str, kind: str
) -> Scene:
    """Draws a text that fills most of the width or height, at a random position."""
    width, height = extent(text, font_of(SIZE))
    share = rng.uniform(0.75, 0.92)
    font = font_of(SIZE * share * min(SIZE / width, SIZE / height))
    width, height = extent(text, font)
    canvas = Canvas(SIZE, background(rng))
    corner = (rng.uniform(0, SIZE - width), rng.uniform(0, SIZE - height))
    box = canvas.text(text, pick(rng, DARK), font, corner)
    return Scene(canvas.image(), (Thing(text, box),), (Asked(question, text, kind),))


def _page(
    rng: np.random.Generator,
    vocabulary: tuple[str, ...],
    font_of: Callable[[float], Font],
    question: str,
) -> Scene:
    canvas, font, pitch = Canvas(PAGE, (255, 255, 255)), font_of(24), PAGE / LINES
    things = []
    for line in range(LINES):
        text = " ".join(pick(rng, vocabulary) for _ in range(WORDS_A_LINE))
        left, top = rng.uniform(16, 96), line * pitch + 20
        things.append(Thing(text, canvas.text(text, "black", font, (left, top))))
    line = int(rng.integers(LINES))
    asked = Asked(question.format(line=line + 1), things[line].name, "line")
    return Scene(canvas.image(), tuple(things), (asked,))


def _syllable(rng: np.random.Generator) -> str:
    initial, medial, final = (int(rng.choice(letters)) for letters in (INITIALS, MEDIALS, FINALS))
    return chr(0xAC00 + (initial * 21 + medial) * 28 + final)


@lru_cache(maxsize=2)
def _handwritten(split: Split) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.images))
    tested, trained = order[:HANDWRITTEN_TESTED], order[HANDWRITTEN_TESTED:]
    chosen = tested if split == "test" else trained
    return data.images[chosen], data.target[chosen]
