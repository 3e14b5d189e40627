"""Questions of RealWorldQA: a letter where the answer is one, else the very words."""

from string import ascii_uppercase

from bench.scorers import choice
from bench.scorers.gold import Gold

LETTERS = ascii_uppercase[:4]


def score(answer: str, gold: Gold) -> float:
    """1 or 0. The options stand in the question, so texts of options are not recognised."""
    expected = gold.answers[0].strip()
    if expected.upper() in LETTERS:
        return float(choice.named(answer, LETTERS) == expected.upper())
    return float(answer.lower().strip().rstrip(".") == expected.lower())
