"""The table of scorers: functions from an answer's text to a score between 0 and 1.

Each module follows one published definition.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.scorers import (
    anls,
    choice,
    exact,
    mmmu,
    ocrbench,
    regions,
    relaxed,
    short,
    vqa,
    yes_no,
)
from bench.scorers.gold import Gold

__all__ = ["SCORERS", "AnswerScorer", "Gold"]


@dataclass(frozen=True)
class AnswerScorer:
    """A scorer; `version` increases with every change that can change a score, and is recorded."""

    score: Callable[[str, Gold], float]
    version: int = 1
    graded: bool = False
    """Whether scores can lie between 0 and 1, instead of being 0 or 1."""
    right_from: float = 0.5
    """The lowest score that counts as right."""


SCORERS: Mapping[str, AnswerScorer] = {
    "exact": AnswerScorer(exact.score),
    "vqa": AnswerScorer(vqa.score, graded=True),
    "anls": AnswerScorer(anls.score, graded=True),
    "relaxed": AnswerScorer(relaxed.score),
    "ocrbench": AnswerScorer(ocrbench.score),
    "choice": AnswerScorer(choice.score),
    "short": AnswerScorer(short.score),
    "mmmu": AnswerScorer(mmmu.score),
    "yes-no": AnswerScorer(yes_no.score),
    "iou": AnswerScorer(regions.box_score, graded=True),
    "point": AnswerScorer(regions.point_score),
}
