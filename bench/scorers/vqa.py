"""Scores by VQA accuracy: agreement with the answers of ten people, each left out once.

Computed as in the official script (GT-Vision-Lab/VQA, vqaEval.py) with its quirks, because
published figures contain them.
"""

import re
from statistics import fmean

from bench.scorers.gold import Gold

ENOUGH = 3  # equal answers for a full score
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
ARTICLES = frozenset(("a", "an", "the"))
NUMBERS = {"none": "0"} | {
    word: str(n)
    for n, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}
THOUSANDS = re.compile(r"\d,\d")
# The official pattern, meant to keep decimal points, removes every period not before a digit. It
# passes its flag as the count, so it removes at most 32.
PERIOD = re.compile(r"\.(?!\d)")
MOST_PERIODS = int(re.UNICODE)

# Contractions that are also written without their one apostrophe …
ONE = """
ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd
how'll how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock
oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone'll someone's
something'd something'll that's there'd there're there's they'd they'll they're they've 'twas wasn't
we've weren't what'll what're what's what've when's where'd where's where've who'd who'll who's
who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
"""
# … and those that are written without either of two.
TWO = """
couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've someone'd've something'd've
there'd've they'd've we'd've who'd've wouldn't've y'all'd've you'd've
"""


def _without_one(word: str) -> list[str]:
    """Returns the word without its first apostrophe, and the word without its last."""
    first, last = word.index("'"), word.rindex("'")
    return [word[:first] + word[first + 1 :], word[:last] + word[last + 1 :]]


# After the regular forms: irregular ones and misspellings of the official list.
CONTRACTIONS = (
    {written: word for word in (ONE + TWO).split() for written in _without_one(word)}
    | {"somebody'd": "somebodyd", "somebodyd've": "somebody'd've", "somebody'dve": "somebody'd've"}
    | {"ow's'at": "'ow's'at", "'ows'at": "'ow's'at", "'ow'sat": "'ow's'at"}
    | {"yall'll": "y'all'll", "y'allll": "y'all'll", "y'alld've": "y'all'd've"}
)


def score(answer: str, gold: Gold) -> float:
    """Returns the mean over the ten people of min(1, equal answers among the other nine / 3)."""
    people, given = [_line(one) for one in gold.answers], _line(answer)
    if len(set(people)) > 1:  # the official script normalises only if people disagree
        people, given = [normalised(one) for one in people], normalised(given)
    equal = people.count(given)
    return fmean(min(1.0, (equal - (one == given)) / ENOUGH) for one in people)


def normalised(text: str) -> str:
    """Normalises an answer as the official VQA script does.

    It removes punctuation and articles, turns number words into digits, and adds the apostrophes
    missing from contractions.
    """
    words = [NUMBERS.get(word, word) for word in _unpunctuated(text).lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def _unpunctuated(text: str) -> str:
    """Replaces punctuation marks by spaces, and removes periods that no digit follows.

    A mark is removed instead if it occurs next to a space, or if the text has a number like 1,000.
    """
    cleaned, numeric = text, THOUSANDS.search(text) is not None
    for mark in PUNCTUATION:
        beside = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if beside or numeric else " ")
    return PERIOD.sub("", cleaned, MOST_PERIODS)


def _line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
