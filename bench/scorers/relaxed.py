"""Scores answers about charts: numbers must be within 5 %, texts equal (Masry et al. 2022).

Computed as in pix2struct's metrics.py: percentages become fractions, an accepted 0 is compared as
text, and years are treated as numbers.
"""

from bench.scorers.gold import Gold

TOLERANCE = 0.05


def score(answer: str, gold: Gold) -> float:
    """Returns 1 if the answer matches any accepted one, else 0."""
    return float(any(_matches(answer.strip(), accepted) for accepted in gold.answers))


def _matches(given: str, accepted: str) -> bool:
    number, expected = _number(given), _number(accepted)
    if number is not None and expected:
        return abs(number - expected) / abs(expected) <= TOLERANCE
    return given.lower() == accepted.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
