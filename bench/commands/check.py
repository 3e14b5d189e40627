"""`bench check`: fails where a footprint grew beyond its baseline; `--update` accepts it."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from bench import check
from bench.footprint import predict
from bench.format import count
from export.registry import list_models


def run(arguments: argparse.Namespace, *, models: Iterable[str] | None = None) -> int:
    """1 when something grew or is new; the table says what. `models`: others than models.yaml's."""
    path = Path(arguments.baseline)
    before = None if arguments.update else check.load(path)
    rows, refusals = predict(models or list_models())
    for line in refusals:
        sys.stderr.write(f"left out: {line}\n")
    now = check.accepted(rows)
    if before is None:
        check.save(path, now)
        sys.stdout.write(f"{len(now)} footprints accepted in {path}\n")
        return 0
    found = check.differences(before, now)
    failing = sum(difference.fails for difference in found)
    if found:
        sys.stdout.write(check.markdown(found) + "\n\n")
    told = f"{count(failing, 'quantity', 'quantities')} grew or new; {check.ACCEPT}"
    sys.stdout.write(f"{len(now)} exports predicted, {told if failing else 'nothing grew'}\n")
    return 1 if failing else 0
