"""What the command lines share: errors of one line, and types of numeric options."""

import argparse
import re
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line on stderr, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """End the program."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def whole(text: str) -> int:
    """A positive integer, for argparse's `type`."""
    if not (text.isascii() and text.isdecimal()) or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive integer")
    return int(text)


def above_zero(text: str) -> float:
    """A number above 0, for argparse's `type`: digits and a point, as some become folder names."""
    if not re.fullmatch(r"[0-9]+([.][0-9]+)?", text) or not float(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return float(text)
