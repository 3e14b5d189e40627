"""`bench check`: fails where a footprint grew beyond its baseline; `--update` accepts it."""

import argparse
import sys
from pathlib import Path

from bench import check
from bench.footprint import predict
from export.registry import list_models


def run(arguments: argparse.Namespace) -> int:
    """1 when something grew or is new; the table says what."""
    path = Path(arguments.baseline)
    rows, refusals = predict(list_models())
    for line in refusals:
        sys.stderr.write(f"left out: {line}\n")
    now = check.accepted(rows)
    if arguments.update:
        check.save(path, now)
        sys.stdout.write(f"{len(now)} footprints accepted in {path}\n")
        return 0
    found = check.differences(check.load(path), now)
    failing = sum(difference.fails for difference in found)
    if found:
        sys.stdout.write(check.markdown(found) + "\n\n")
    sys.stdout.write(f"Footprint: {len(now)} exports predicted, ")
    sys.stdout.write(
        f"{failing} quantities grew or are new; {check.ACCEPT}\n" if failing else "nothing grew\n"
    )
    return 1 if failing else 0
