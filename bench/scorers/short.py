"""Scores RealWorldQA: as multiple choice if the right answer is a letter, else by exact match."""

from bench.scorers import choice
from bench.scorers.gold import Gold


def score(answer: str, gold: Gold) -> float:
    """Returns 1 for a right answer, else 0."""
    expected = gold.answers[0].strip()
    if expected in tuple(choice.UNLISTED):
        return choice.score(answer, gold)
    return float(answer.lower().strip().rstrip(".") == expected.lower())
