"""Average normalised Levenshtein similarity of document questions (Biten et al. 2019, ICDAR).

As the task's own script and both harnesses compute it: a similarity of exactly one half still
counts (in the paper's formula it does not), and lengths are those of the texts as they came. NOT
aware of data sets.
"""

from bench.scorers.gold import Gold

THRESHOLD = 0.5


def score(answer: str, gold: Gold) -> float:
    """The largest of 1 - distance / length over accepted answers; 0 if that is below one half."""
    best = 1 - min(_distance_share(answer, accepted) for accepted in gold.answers)
    return best if best >= THRESHOLD else 0.0


def _distance_share(said: str, accepted: str) -> float:
    length = max(len(said.upper()), len(accepted.upper()))
    return distance(_plain(said), _plain(accepted)) / length if length else 0.0


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def distance(first: str, second: str) -> int:
    """Levenshtein's: letters inserted, deleted or replaced (Wagner and Fischer 1974)."""
    row = list(range(len(first) + 1))
    for n, letter in enumerate(second, start=1):
        above, row = row, [n]
        for place, other in enumerate(first):
            kept = above[place] + (letter != other)
            row.append(min(kept, above[place + 1] + 1, row[place] + 1))
    return row[-1]
