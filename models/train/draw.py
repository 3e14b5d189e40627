"""Draws the pictures of all tasks, about 3 GB, in half a minute of 16 cores.

    python -m models.train.draw build/pool

NOT aware of what they are drawn for.
"""

import argparse
import os
from pathlib import Path

from models.train import pool


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m models.train.draw", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of the pictures, to try it out")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    counts = {kind: round(arguments.share * count) for kind, count in pool.COUNTS.items()}
    trained, held_out = pool.pools(counts, arguments.workers)
    pool.save(trained, arguments.folder / "train")
    pool.save(held_out, arguments.folder / "held-out")


if __name__ == "__main__":
    main()
