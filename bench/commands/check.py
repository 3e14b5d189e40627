"""`bench check`: compares predicted footprints with accepted ones; exit code 1 if one grew.

A footprint is the size on disk and the peak memory of an export. `--update` accepts the new ones.
"""

import argparse
import gc
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench import record
from bench.analysis import baselines, peak_baseline
from bench.analysis.baselines import Difference
from bench.analysis.predictions import predict
from bench.reporting.fmt import count
from bench.reporting.footprints import differing
from export.checkpoint.registry import PREFIX, list_models
from export.errors import UserError


def run(arguments: argparse.Namespace, *, models: Iterable[str] | None = None) -> int:
    """Print what differs from the accepted values; returns 1 if something grew or is new, else 0.

    Predictions are always compared, measured peaks only if the command line names files of records.
    `models` are predicted instead of those of models.yaml.
    """
    differences: list[Difference] = []
    if arguments.runs:
        differences += _measured(Path(arguments.peaks), arguments.update, arguments.runs)
    named = models or [PREFIX + name for name in list_models()]
    differences += _predicted(Path(arguments.baseline), arguments.update, named)
    if arguments.update:
        return 0
    failing = sum(difference.fails for difference in differences)
    if differences:
        sys.stdout.write(differing(differences) + "\n\n")
    failed = f"{count(failing, 'quantity', 'quantities')} grew or new; {baselines.ACCEPT}"
    sys.stdout.write(f"{failed if failing else 'nothing grew'}\n")
    return 1 if failing else 0


def _predicted(path: Path, update: bool, models: Iterable[str]) -> list[Difference]:
    """Predict the footprints of all exports of the models; return how they differ from a file.

    `path` is the file of accepted footprints. With `update` it is written instead, and [] returned.
    """
    before = None if update else baselines.load(path)
    gc.disable()  # with hundreds of graphs and vocabularies it takes a third of the time
    try:
        rows, refusals = predict(models)
    finally:
        gc.freeze()  # so that the collection at exit skips what they left
        gc.enable()
    for line in refusals:
        sys.stderr.write(f"left out: {line}\n")
    now = baselines.accepted(rows)
    if before is not None:
        sys.stdout.write(f"{len(now)} exports predicted\n")
        return baselines.differences(before, now)
    baselines.save(path, now)
    sys.stdout.write(f"{len(now)} footprints accepted in {path}\n")
    return []


def _measured(path: Path, update: bool, runs: Sequence[str]) -> list[Difference]:
    """Return how the peaks that files of records measured differ from the accepted ones in `path`.

    With `update`, write them to `path` and return []. Raises UserError if there are no peaks.
    """
    records, damages = record.read(Path(name) for name in runs)
    for damage in damages:
        sys.stderr.write(f"{damage}\n")
    now = peak_baseline.measured(records)
    if not now:
        raise UserError(
            f"{', '.join(runs)}: no measured peak of memory; `bench run --task latency` writes them"
        )
    if not update:
        sys.stdout.write(f"{count(len(now), 'peak')} measured\n")
        return peak_baseline.differences(peak_baseline.load(path), now)
    accepted = (
        peak_baseline.load(path)
        if path.exists()
        else peak_baseline.Peaks(peak_baseline.TOLERANCE, ())
    )
    peak_baseline.save(path, peak_baseline.updated(accepted, now))
    sys.stdout.write(f"{count(len(now), 'measured peak')} accepted in {path}\n")
    return []
