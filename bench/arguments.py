"""What arguments of several commands of `bench` share: types, help texts, functions that add them.

A type converts or checks one word of the command line. For a wrong word it raises
argparse.ArgumentTypeError, or UserError for an unknown name; either becomes an error of one line.
"""

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from bench.machine.profiles import PROFILES
from bench.tasks.questions import shard_of
from export.arguments import whole
from export.errors import UserError, unknown
from runtimes.devices import device_of

# Help texts of options that several commands have.
THREADS = (
    "compute with N CPU threads, at most one for each CPU that this process may use (default: one "
    "for each fast CPU, fewer if other processes use CPUs, one for a small model)"
)
JSON = "print one JSON object instead of text"
OFFLINE = "download nothing from the Hugging Face hub; use only its local cache"
TILES = "cut an image into at most N tiles, the overview included (default: the model's own limit)"
WEIGHTS = (
    "hub: trained weights; synthetic: random weights of the real shapes, for speed and memory only "
    "(default: trained weights)"
)

Add = Callable[..., Any]
"""`add_argument` of a parser or of a group of arguments."""


def one_of(kind: str, table: Iterable[str]) -> Callable[[str], str]:
    """Return a function for argparse's `type` that accepts only the names in `table`.

    That function returns an accepted name unchanged. For another word it raises UserError, which
    suggests similar names and calls them by the noun `kind`, for example "runtime".
    """

    def check(word: str) -> str:
        if word not in table:
            raise unknown(kind, word, table)
        return word

    return check


def port(text: str) -> int:
    """Parses the number of a port, from 0 to 65535. Raises ArgumentTypeError for other texts."""
    if not (text.isascii() and text.isdecimal()) or int(text[:6]) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port, a number from 0 to 65535")
    return int(text)


def seed(word: str) -> int:
    """Convert a word to an integer of at least 0. Raises ArgumentTypeError for other words."""
    if not (word.isascii() and word.isdecimal()):
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number from 0 on")
    return int(word)


def shard(word: str) -> str:
    """Return a word `I/N` (shard I of N, with 1 <= I <= N) unchanged.

    Raises ArgumentTypeError for other words.
    """
    try:
        shard_of(word)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{word!r} is not a shard; give I/N, for example 1/4"
        ) from None
    return word


def percentage(word: str) -> float:
    """Convert a word to a number of at least 0 and below 100. Raises ArgumentTypeError."""
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value < 100:
        raise argparse.ArgumentTypeError(f"{word!r} is not a number from 0 to below 100")
    return value


def device(word: str) -> str:
    """Return the name of a device profile (a key of PROFILES), or `cuda:N`, unchanged.

    Raises UserError or ArgumentTypeError for other words.
    """
    if word in PROFILES or not word.startswith("cuda"):
        return one_of("device", PROFILES)(word)
    try:
        device_of(word)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return word


def region(word: str) -> tuple[float, ...]:
    """Convert a point `X,Y`, or a box `X,Y,X,Y` (two corners), to a tuple of its numbers.

    Raises ArgumentTypeError if one is not a number; does not check how many there are.
    """
    try:
        return tuple(float(number) for number in word.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is not a list of numbers; give X,Y") from None


def add_names(
    add: Add, kind: str, table: Iterable[str], what: str, shown: Iterable[str] | None = None
) -> None:
    """Add an option that may be given several times; its help lists `shown`, or all of `table`."""
    names = ", ".join(table if shown is None else shown)
    known = f"{what}. May be given several times. Names: {names}"
    add(f"--{kind}", action="append", type=one_of(kind, table), metavar="NAME", help=known)


def add_count(add: Add, flag: str, default: int | None, what: str) -> None:
    add(f"--{flag}", type=whole, default=default, metavar="N", help=what)


def add_runs(add: Add, count: str, what: str) -> None:
    add("runs", nargs=count, metavar="RUN.jsonl", help=what)
