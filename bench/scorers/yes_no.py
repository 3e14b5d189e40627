"""Scores yes/no questions as POPE does, with `yes` as the positive class (Li et al. 2023).

An answer means no if its first sentence contains the word no or not, else yes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from bench.scorers.gold import Gold

NEGATIVE = ("No", "not", "no")


@dataclass(frozen=True)
class Figures:
    """Statistics of `n` answers to yes/no questions, as shares from 0 to 1.

    `precision` is None if no answer said yes, `recall` if yes was never right, `f1` if no yes was
    right. `yes_ratio` is the share of answers that said yes.
    """

    n: int
    accuracy: float
    precision: float | None
    recall: float | None
    f1: float | None
    yes_ratio: float


def score(answer: str, gold: Gold) -> float:
    """Returns 1 for a right answer, else 0."""
    return float(says_yes(answer) == says_yes(gold.answers[0]))


def says_yes(answer: str) -> bool:
    words = answer.partition(".")[0].replace(",", "").split(" ")
    return not any(word in words for word in NEGATIVE)


def figures(answers: Iterable[tuple[bool, bool]]) -> Figures | None:
    """Computes the statistics of pairs (the answer said yes, yes is right); None without pairs."""
    pairs = list(answers)
    if not pairs:
        return None
    both = sum(said and true for said, true in pairs)
    said, true = sum(said for said, _ in pairs), sum(true for _, true in pairs)
    precision, recall = (both / of if of else None for of in (said, true))
    f1 = None
    if precision is not None and recall is not None and both:
        f1 = 2 * precision * recall / (precision + recall)
    equal = sum(said == true for said, true in pairs)
    return Figures(len(pairs), equal / len(pairs), precision, recall, f1, said / len(pairs))
