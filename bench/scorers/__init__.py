"""The table of scorers: functions that give a model's answer to a question a score from 0 to 1.

Each module of this package follows one published definition.
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
    """A way to score answers; `score` takes an answer's text and the right answers (Gold).

    `version` increases with every change that can change a score, and is recorded. `graded`: scores
    lie anywhere from 0 to 1, else they are 0 or 1. `right_from` is the lowest score that counts as
    a right answer.
    """

    score: Callable[[str, Gold], float]
    version: int = 1
    graded: bool = False
    right_from: float = 0.5


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
