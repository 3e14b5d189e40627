"""Scores OCRBench: right if an accepted text occurs within the answer (Liu et al. 2023).

Formulas (`kind` HME100k) are compared ignoring spaces, everything else ignoring case.
"""

from bench.scorers.gold import Gold

FORMULAS = "HME100k"


def score(answer: str, gold: Gold) -> float:
    """Returns 1 for a right answer, else 0."""
    plain = _formula if gold.kind == FORMULAS else _text
    return float(any(plain(accepted) in plain(answer) for accepted in gold.answers))


def _formula(text: str) -> str:
    return text.strip().replace("\n", " ").replace(" ", "")


def _text(text: str) -> str:
    return text.lower().strip().replace("\n", " ")
