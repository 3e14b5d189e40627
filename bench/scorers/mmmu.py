"""Scores MMMU: parses letters and open answers out of free text (Yue et al. 2024, eval_utils.py).

An answer without a letter gets a random one, as in the original; here the draw depends only on the
question's key, so it does not depend on the order of questions.
"""

import random
import re
from collections.abc import Iterable
from string import ascii_uppercase

from bench.scorers.gold import Gold

MARKS = (",", ".", "!", "?", ";", ":", "'")
LONG_ANSWER = 5  # words; in longer answers an option's text is searched
# Words after which an open answer states its result.
INDICATORS = (
    *("could be ", "so ", "is ", "thus ", "therefore "),
    *("final ", "answer ", "result "),
)
TRIVIAL = (":", ",", ".", "!", "?", ";", "'")
NUMBERS = tuple(
    re.compile(pattern)
    for pattern in (
        r"-?\b\d{1,3}(?:,\d{3})+\b",  # with thousands
        r"-?\d+(?:\.\d+)?[eE][+-]?\d+",  # scientific
        r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",  # plain
    )
)
Value = str | float


def score(answer: str, gold: Gold) -> float:
    """Returns 1 for a right answer, else 0.

    Questions with options expect a letter, others a text or a number.
    """
    if not gold.options:
        return float(_open_matches(open_values(answer), gold.answers))
    letters = ascii_uppercase[: len(gold.options)]
    chosen = letter(answer, gold.options) or random.Random(gold.key).choice(letters)
    return float(chosen in gold.answers)


def letter(answer: str, options: tuple[str, ...]) -> str | None:
    """Returns the option's letter that the answer names last; None if it names none.

    It looks for `(A)` first, then for `A` as a word, then, in long answers, for an option's text.
    """
    for mark in MARKS:
        answer = answer.strip(mark)
    answer = f" {answer} "
    letters = ascii_uppercase[: len(options)]
    for template in ("({})", " {} "):
        positions = {one: answer.rfind(template.format(one)) for one in letters}
        if max(positions.values()) >= 0:
            return max(positions, key=lambda one: positions[one])
    if len(answer.split()) <= LONG_ANSWER:
        return None
    quoted = [answer.lower().rfind(option.lower()) for option in options]
    return letters[quoted.index(max(quoted))] if max(quoted, default=-1) >= 0 else None


def open_values(answer: str) -> set[Value]:
    """Returns the texts and numbers that an answer to a question without options may mean."""
    key = _key_parts(answer)
    texts = [*key, *(number for part in key for number in _numbers(part))]
    return {value for text in texts for value in _values(text)}


def _open_matches(meant: Iterable[Value], accepted: Iterable[str]) -> bool:
    """Whether a number of `meant` equals an accepted one, or a text of it contains one."""
    expected = [value for text in accepted for value in _values(text)]
    words = [value for value in expected if isinstance(value, str)]
    return any(
        any(word in value for word in words) if isinstance(value, str) else value in expected
        for value in meant
    )


def _key_parts(answer: str) -> list[str]:
    """Returns, for each line with an indicator (`so`, `is`, …), the shortest text after one.

    If no line has one, it returns the whole answer.
    """
    answer = answer.strip().strip(".").lower()
    # The original also splits sentences at ". " before a capital, which lower-case text lacks.
    parts = answer.split("\n")
    key_parts = []
    for number, part in enumerate(parts, start=1):
        indicators = (*INDICATORS, "=") if number == len(parts) else INDICATORS
        tails = [part.split(word)[-1].strip() for word in indicators if word in part]
        shortest = _shortest(tails)
        if shortest and shortest not in TRIVIAL:
            key_parts.append(shortest)
    return key_parts or [answer]


def _shortest(tails: list[str]) -> str:
    """Returns the first of the shortest texts; an empty one is replaced by the next, as in MMMU."""
    shortest = ""
    for tail in tails:
        if not shortest or len(tail) < len(shortest):
            shortest = tail
    return shortest


def _numbers(text: str) -> list[str]:
    return [number for pattern in NUMBERS for number in pattern.findall(text)]


def _values(text: str) -> list[Value]:
    """Reads a text as a number, rounded to two decimals, or else returns it in lower case.

    A single letter gives two texts, with a space before and after it.
    """
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
    return [f" {text}", f"{text} "] if len(text) == 1 else [text]
