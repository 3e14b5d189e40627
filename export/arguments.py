"""What the command lines share: errors of one line, numbers that say what they should be."""

import argparse
import re
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A wrong command line is one line on stderr and exit code 2, as all errors of users are."""

    def error(self, message: str) -> NoReturn:
        """End the program."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def whole(text: str) -> int:
    """A count, for argparse's `type`."""
    if not (text.isascii() and text.isdecimal()) or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 on")
    return int(text)


def above_zero(text: str) -> float:
    """An amount, for argparse's `type`. Digits alone: folders are named after some."""
    if not re.fullmatch(r"[0-9]+([.][0-9]+)?", text) or not float(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return float(text)
