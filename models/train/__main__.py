"""Trains the bundled models: `python -m models.train draw | all | pooled`, see README.md.

NOT aware of what a command does.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "draw": "draw the pictures of all tasks",
    "all": "train the four twins at the same time on one GPU",
    "pooled": "train one",
}


def main(words: Sequence[str]) -> int:
    listed = "\n".join(f"  {name:8}{does}" for name, does in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m models.train",
        description="Train the bundled models.",
        epilog=f"commands, each with --help of its own:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args(words[:1]).command
    code: int = import_module(f"models.train.{command}").main(words[1:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
