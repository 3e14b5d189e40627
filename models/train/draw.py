"""Draws the pictures of all tasks, about 3 GB, in half a minute of 16 cores.

NOT aware of what they are drawn for.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from models.train import pool


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m models.train draw", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of the pictures, to try it out")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args(words)
    trained, held_out = pool.pools(arguments.share, arguments.workers)
    pool.save(trained, arguments.folder / "train")
    pool.save(held_out, arguments.folder / "held-out")
    return 0
