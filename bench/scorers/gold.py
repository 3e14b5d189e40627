"""What is right about one question. Data alone."""

from dataclasses import dataclass

from runtimes.base import Region


@dataclass(frozen=True)
class Gold:
    """Accepted answers, and what else a scorer asks for.

    `options` are those of a multiple choice, A first; its answer is a letter. `kind` tells apart
    what a data set scores differently (OCRBench's data sets, MMMU's types of question). `places`
    are boxes in shares of the image. `key` is the question's own, for scorers that have to draw.
    """

    answers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    kind: str = ""
    places: tuple[Region, ...] = ()
    key: str = ""
