"""The table of scorers: pure functions from an answer's text to a score between 0 and 1.

Each is a module of its own that follows one published definition. NOT aware of models, tasks or
files.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.scorers import (
    anls,
    choice,
    exact,
    mmmu,
    ocrbench,
    places,
    relaxed,
    short,
    vqa,
    yes_no,
)
from bench.scorers.gold import Gold

__all__ = ["SCORERS", "Gold", "Scorer"]


@dataclass(frozen=True)
class Scorer:
    """`version` is raised with every change that can change a score, and kept in the record."""

    score: Callable[[str, Gold], float]
    version: int = 1
    graded: bool = False
    """Whether scores lie between 0 and 1, not only at them."""
    right_from: float = 0.5
    """The score from which an answer counts as right where only right and wrong are counted."""


SCORERS: Mapping[str, Scorer] = {
    "exact": Scorer(exact.score),
    "vqa": Scorer(vqa.score, graded=True),
    "anls": Scorer(anls.score, graded=True),
    "relaxed": Scorer(relaxed.score),
    "ocrbench": Scorer(ocrbench.score),
    "choice": Scorer(choice.score),
    "short": Scorer(short.score),
    "mmmu": Scorer(mmmu.score),
    "yes-no": Scorer(yes_no.score),
    "iou": Scorer(places.box_score, graded=True),
    "point": Scorer(places.point_score),
}
