"""Scores multiple choice: finds the option that an answer means, by its letter or else its text.

It follows VLMEvalKit without a judge model (matching_util.py, `exact_matching`), but an answer in
which no option is recognised is wrong: no random option is drawn for it.
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
    """Returns 1 if the answer means the right option, else 0.

    Without `gold.options` only the letters A to D are recognised, not the options' texts.
    """
    chosen = letter(answer, gold.options) if gold.options else named(answer, UNLISTED)
    return float(chosen == gold.answers[0].strip())


def letter(answer: str, options: tuple[str, ...]) -> str | None:
    """Returns the letter of the option meant; Z: the answer declines; None: none is recognised."""
    letters = ascii_uppercase[: len(options)]
    return named(answer, letters) or _quoted(answer.lower(), options)


def shuffled(options: tuple[str, ...], answer: str, turns: int) -> tuple[tuple[str, ...], str]:
    """Rotates the options by `turns` places (CircularEval, Liu et al. 2023).

    `answer` is the right option's letter. Returns the rotated options and the letter it then has.
    """
    moved = options[turns:] + options[:turns]
    index = (ascii_uppercase.index(answer) - turns) % len(options)
    return moved, ascii_uppercase[index]


def named(answer: str, letters: str) -> str | None:
    """Returns the one of `letters` that the answer names near its end, or after `answer is`.

    Z: the answer declines; None: it names none, or several.
    """
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
    """Returns the letter of the one option whose text occurs in the answer.

    None if several or none occur, or if the answer is much longer than the options.
    """
    if len(answer) > 2 * sum(map(len, options)):
        return None
    occurring = [index for index, option in enumerate(options) if option.lower() in answer]
    return ascii_uppercase[occurring[0]] if len(occurring) == 1 else None
