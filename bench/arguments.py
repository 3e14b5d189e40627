"""Types of command-line values for argparse: names of tables, seeds, shards, percentages, devices.

Each takes the word of the command line and returns its value, or raises what argparse or `bench`
turns into an error of one line.
"""

import argparse
from collections.abc import Callable, Iterable

from bench.machine.profiles import PROFILES
from bench.tasks.questions import shard_of
from export.errors import UserError, unknown
from runtimes.devices import device_of


def one_of(kind: str, table: Iterable[str]) -> Callable[[str], str]:
    """Like `choices`, but the error suggests similar names."""

    def check(word: str) -> str:
        if word not in table:
            raise unknown(kind, word, table)
        return word

    return check


def seed(word: str) -> int:
    """An integer from 0."""
    if not (word.isascii() and word.isdecimal()):
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number from 0 on")
    return int(word)


def shard(word: str) -> str:
    """`I/N`, the number of a shard and how many there are."""
    try:
        shard_of(word)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{word!r} is not a shard; give I/N, for example 1/4"
        ) from None
    return word


def percentage(word: str) -> float:
    """A number from 0 to below 100."""
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value < 100:
        raise argparse.ArgumentTypeError(f"{word!r} is not a number from 0 to below 100")
    return value


def device(word: str) -> str:
    """A name of PROFILES, or a GPU by its number."""
    if word in PROFILES or not word.startswith("cuda"):
        return one_of("device", PROFILES)(word)
    try:
        device_of(word)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return word


def region(word: str) -> tuple[float, ...]:
    """A point, or two corners of a box."""
    try:
        return tuple(float(number) for number in word.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is not a list of numbers; give X,Y") from None
