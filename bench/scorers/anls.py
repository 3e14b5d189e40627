"""Scores answers about documents by Levenshtein similarity: ANLS (Biten et al. 2019, ICDAR).

Computed as in the data set's script and two evaluation harnesses: a similarity of exactly one half
counts, unlike in the paper's formula, and lengths are those of the original strings.
"""

from bench.scorers.gold import Gold

THRESHOLD = 0.5


def score(answer: str, gold: Gold) -> float:
    """Returns the largest 1 - distance / length over the accepted answers; 0 if below one half."""
    best = 1 - min(_distance_share(answer, accepted) for accepted in gold.answers)
    return best if best >= THRESHOLD else 0.0


def _distance_share(given: str, accepted: str) -> float:
    length = max(len(given.upper()), len(accepted.upper()))
    return distance(_plain(given), _plain(accepted)) / length if length else 0.0


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def distance(first: str, second: str) -> int:
    """Returns the Levenshtein distance in characters (Wagner and Fischer 1974)."""
    row = list(range(len(first) + 1))
    for n, letter in enumerate(second, start=1):
        above, row = row, [n]
        for index, other in enumerate(first):
            kept = above[index] + (letter != other)
            row.append(min(kept, above[index + 1] + 1, row[index] + 1))
    return row[-1]
