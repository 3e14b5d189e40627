"""Argument parsing that all commands share: errors of one line, and types of numeric options."""

import argparse
import re
from typing import NoReturn

from export.console import one_line


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line on stderr, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Prints `message` as one line on stderr and exits with code 2."""
        self.exit(2, f"{self.prog}: {one_line(message)}; see {self.prog} --help\n")


def whole(text: str) -> int:
    """Parses a positive integer (argparse's `type`). Raises ArgumentTypeError for other texts."""
    if not (text.isascii() and text.isdecimal()) or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive integer")
    return int(text)


def above_zero(text: str) -> float:
    """Parses a number above 0 (argparse's `type`). Raises ArgumentTypeError for other texts.

    Only digits and one point are allowed, because some of these numbers become folder names.
    """
    if not re.fullmatch(r"[0-9]+([.][0-9]+)?", text) or not float(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return float(text)
