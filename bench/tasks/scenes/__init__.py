"""Generates images with questions and answers, the same for the same seed: GENERATORS.

Training of the bundled models (models/train) uses the same generators.
"""

from collections.abc import Iterator, Mapping
from zlib import crc32

import numpy as np

from bench.tasks.scenes import shapes, text
from bench.tasks.scenes.scene import Asked, Generator, Scene, Split, Thing

__all__ = ["GENERATORS", "Asked", "Generator", "Scene", "Split", "Thing", "scenes"]

GENERATORS: Mapping[str, Generator] = {
    "counting": Generator(shapes.counting, 1, asked=3),
    "grid": Generator(shapes.grid, 1),
    "boxes": Generator(shapes.boxes, 1, asked=None),
    "points": Generator(shapes.points, 1, asked=None),
    "digits": Generator(text.digits, 1),
    "handwritten": Generator(text.handwritten, 1, most=text.HANDWRITTEN_TESTED),
    "latin": Generator(text.latin, 1),
    "hangul": Generator(text.hangul, 1),
    "ocr-english": Generator(text.english_page, 1),
    "ocr-korean": Generator(text.korean_page, 1),
}


def scenes(name: str, split: Split, count: int, seed: int = 0, first: int = 0) -> Iterator[Scene]:
    """Yields `count` generated images with questions, from number `first` on.

    `name` is a key of GENERATORS. A scene depends only on name, split, seed and its number.
    """
    generator = GENERATORS[name]
    for number in range(first, first + count):
        key = (crc32(name.encode()), split == "test", seed, number)
        yield generator.draw(np.random.default_rng(key), split, number)
