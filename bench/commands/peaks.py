"""`bench peaks`: 1 if a predicted peak of memory or size on disk is not the measured one."""

import argparse
import sys
from pathlib import Path

from bench import record
from bench.analysis.predictions import prediction_errors
from bench.reporting.footprints import errors
from export.errors import UserError


def run(arguments: argparse.Namespace) -> int:
    """Print a row for each latency record of an artifact; damaged lines go to stderr."""
    records, damages = record.read(Path(name) for name in arguments.runs)
    for damage in damages:
        sys.stderr.write(f"{damage}\n")
    rows = list(prediction_errors(records))
    if not rows:
        raise UserError(
            f"{', '.join(arguments.runs)}: no measured peak of an artifact; "
            "`bench run --task latency` writes them"
        )
    sys.stdout.write(errors(rows) + "\n")
    return int(any(row.wrong for row in rows))
