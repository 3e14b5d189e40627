"""The right answers of one question."""

from dataclasses import dataclass

from runtimes.base import Region


@dataclass(frozen=True)
class Gold:
    """The right answers to one question, and what else a scorer needs.

    `answers` are all accepted texts. `options` are those of a multiple choice, A first; then the
    answer is a letter. `kind` is the type of question, in data sets that score types differently.
    `regions` are accepted boxes in normalized coordinates. `key` identifies the question: it seeds
    scorers that draw at random.
    """

    answers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    kind: str = ""
    regions: tuple[Region, ...] = ()
    key: str = ""
