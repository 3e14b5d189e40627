"""Multiple choice: the option that an answer means, by its letter, else by its text.

As in VLMEvalKit without a judge model (matching_util.py, `exact_matching`), but no random option is
drawn for an answer that means none: it is wrong.
"""

import re
from string import ascii_uppercase

from bench.scorers.gold import Gold

SEPARATORS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
LAST_WORDS = 5  # words at the end of an answer among which a letter counts
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
    """1 or 0. Without `gold.options` only letters are recognised, not the options' texts."""
    chosen = letter(answer, gold.options) if gold.options else named(answer, UNLISTED)
    return float(chosen == gold.answers[0].strip())


def letter(answer: str, options: tuple[str, ...]) -> str | None:
    """The letter that is meant; Z if the answer declines, None if none is recognised."""
    letters = ascii_uppercase[: len(options)]
    return named(answer, letters) or _quoted(answer.lower(), options)


def shuffled(options: tuple[str, ...], answer: str, turns: int) -> tuple[tuple[str, ...], str]:
    """Options rotated by `turns`, and the answer's new letter (CircularEval, Liu et al. 2023)."""
    moved = options[turns:] + options[:turns]
    index = (ascii_uppercase.index(answer) - turns) % len(options)
    return moved, ascii_uppercase[index]


def named(answer: str, letters: str) -> str | None:
    """The one letter that is a word of its own among the last words, or follows `answer is`."""
    if any(refusal in answer for refusal in REFUSALS):
        return NONE
    words = answer.translate(SEPARATORS).split()
    alone = [one for one in letters if one in words]
    if len(alone) == 1 and words.index(alone[0]) > len(words) - LAST_WORDS:
        return alone[0]
    if not alone and NONE in words:
        return NONE
    stated = ANSWER_IS.search(answer)
    return stated[1].upper() if stated and stated[1].upper() in letters else None


def _quoted(answer: str, options: tuple[str, ...]) -> str | None:
    """The one option whose text occurs; None if the answer is much longer than the options."""
    if len(answer) > 2 * sum(map(len, options)):
        return None
    occurring = [index for index, option in enumerate(options) if option.lower() in answer]
    return ascii_uppercase[occurring[0]] if len(occurring) == 1 else None
