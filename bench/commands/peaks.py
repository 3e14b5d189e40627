"""`bench peaks`: compares predicted with measured peak memory and size on disk.

The exit code is 1 if a peak is off by more than 5 %, or a size by more than its target states
(Target.size_error; for most layouts: at all).
"""

import argparse
import sys
from pathlib import Path

from bench import record
from bench.analysis.predictions import prediction_errors
from bench.reporting.footprints import errors
from export.errors import UserError


def run(arguments: argparse.Namespace) -> int:
    """Print a row for each latency record of an artifact; returns 1 if a prediction is wrong.

    Lines that are not records are reported on stderr. Raises UserError if nothing can be compared.
    """
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
