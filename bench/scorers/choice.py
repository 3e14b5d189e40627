"""Multiple choice: which option an answer means, by its letter or else by its text.

As VLMEvalKit does without a judging model (matching_util.py, `exact_matching`); nothing is drawn,
so an answer that means none is wrong. NOT aware of data sets.
"""

import re
from string import ascii_uppercase

from bench.scorers.gold import Gold

SEPARATORS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
LAST_WORDS = 5  # a letter counts among them
NONE = "Z"
UNLISTED = ascii_uppercase[:4]
REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
ANSWER_IS = re.compile(r"(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)


def score(answer: str, gold: Gold) -> float:
    """1 or 0. Where the options stand in the question alone, their texts are not recognised."""
    found = letter(answer, gold.options) if gold.options else named(answer, UNLISTED)
    return float(found == gold.answers[0].strip())


def letter(answer: str, options: tuple[str, ...]) -> str | None:
    """The letter that is meant; Z where the answer declines, None where nothing can be said."""
    letters = ascii_uppercase[: len(options)]
    return named(answer, letters) or _quoted(answer.lower(), options)


def shuffled(options: tuple[str, ...], answer: str, turns: int) -> tuple[tuple[str, ...], str]:
    """The options moved on by `turns` places, and the answer's new letter.

    A question counts as answered if it is under every rotation (CircularEval, Liu et al. 2023).
    """
    moved = options[turns:] + options[:turns]
    place = (ascii_uppercase.index(answer) - turns) % len(options)
    return moved, ascii_uppercase[place]


def named(answer: str, letters: str) -> str | None:
    """The one letter that stands alone among the last words, or behind `answer is`."""
    if any(refusal in answer for refusal in REFUSALS):
        return NONE
    words = answer.translate(SEPARATORS).split()
    alone = [one for one in letters if one in words]
    if len(alone) == 1 and words.index(alone[0]) > len(words) - LAST_WORDS:
        return alone[0]
    if not alone and NONE in words:
        return NONE
    found = ANSWER_IS.search(answer)
    return found[1].upper() if found and found[1].upper() in letters else None


def _quoted(answer: str, options: tuple[str, ...]) -> str | None:
    """The one option whose text occurs, unless the answer is far longer than all of them."""
    if len(answer) > 2 * sum(map(len, options)):
        return None
    found = [place for place, option in enumerate(options) if option.lower() in answer]
    return ascii_uppercase[found[0]] if len(found) == 1 else None
