"""Scores by exact match with an accepted answer, ignoring case and repeated white space."""

from bench.scorers.gold import Gold


def score(answer: str, gold: Gold) -> float:
    """Returns 1 for a right answer, else 0."""
    return float(_plain(answer) in map(_plain, gold.answers))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
