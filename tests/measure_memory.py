"""Run by hand: predicted beside measured peaks and bytes of the exports in a run's records.

`python tests/measure_memory.py RUN.jsonl…`; exit code 1 where a peak is off by more than 5 %. See
docs/notes/2026-11-peak-memory.md for how such records are made.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from bench import record
from bench.record import Record
from bench.reporting.format import change, megabytes, table
from export.checkpoint.registry import open_model
from export.footprint import footprint
from export.footprint.memory import Workload
from export.quantize.recipe import RECIPES
from runtimes import RUNTIMES
from runtimes.session.loop import room

TOLERANCE = 0.05


def compared(records: list[Record]) -> Iterator[tuple[str, int, int, int]]:
    """Export and work, predicted peak, measured peak, predicted minus measured bytes on disk."""
    for found in records:
        subject, warmups = found.case.subject, found.outcome.warmups
        peaks = [phase.peak_bytes or 0 for phase in found.outcome.memory]
        is_predicted = not RUNTIMES[found.case.runtime].hidden
        if not (warmups and is_predicted and subject.target and subject.recipe):
            continue
        model = open_model(subject.model, weights="synthetic" if subject.synthetic else None)
        tiles = warmups[0].image_tiles or 0
        positions = (warmups[0].prompt_positions or 0) + len(warmups[0].tokens)
        work = Workload(tiles, positions, room(model.vlm))
        predicted = footprint(model, RECIPES[subject.recipe], subject.target, work, subject.layout)
        name = f"{subject.model} {subject.target} {subject.recipe}, {tiles} tiles, {positions}"
        off = predicted.disk_bytes - (subject.disk_bytes or 0)
        yield name, predicted.peak_bytes, max(peaks), off


def main(paths: list[str]) -> int:
    records, _ = record.read(Path(path) for path in paths)
    rows = list(compared(records))
    cells = [
        (name, megabytes(predicted), megabytes(measured), change(predicted / measured - 1), f"{d}")
        for name, predicted, measured, d in rows
    ]
    header = ("export, work in positions", "predicted peak", "measured", "off", "disk bytes off")
    sys.stdout.write(table(header, cells) + "\n")
    return int(any(abs(p / m - 1) > TOLERANCE or d for _, p, m, d in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
