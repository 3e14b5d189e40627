"""The right answers of one question."""

from dataclasses import dataclass

from runtimes.base import Region


@dataclass(frozen=True)
class Gold:
    """Accepted answers, and what else a scorer needs.

    `options` are those of a multiple choice, A first; then the answer is a letter. `kind` is a type
    of question that a data set scores differently (OCRBench's sources, MMMU's types). `regions` are
    boxes in normalized coordinates. `key` identifies the question, as a seed for scorers that draw.
    """

    answers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    kind: str = ""
    regions: tuple[Region, ...] = ()
    key: str = ""
