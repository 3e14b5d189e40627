"""Seeded pictures with questions, drawn here: what a tiny twin can learn and be asked about.

Item `index` of a split is the same wherever numpy, Pillow and the fonts are. NOT aware of models.
"""

from collections.abc import Callable, Mapping

import numpy as np

from bench.tasks.toys import scenes, texts
from bench.tasks.toys.toy import Split, Toy

GENERATORS: Mapping[str, Callable[[np.random.Generator, Split], Toy]] = {
    "scenes": scenes.scene,
    "digits": texts.digits,
    "letters": texts.letters,
    "hangul": texts.hangul,
    "handwritten": texts.handwritten,
}


def toy(name: str, split: Split, index: int) -> Toy:
    """One item of GENERATORS[name]; train and test never share a seed, nor a text of two or more
    characters."""
    seed = [list(GENERATORS).index(name), split == "test", index]
    return GENERATORS[name](np.random.default_rng(seed), split)
