"""`bench report`: records in, markdown out, figures beside it."""

import argparse
import sys
from pathlib import Path

from bench import record
from bench.report import report
from bench.summary import rows
from export.errors import UserError


def run(arguments: argparse.Namespace) -> int:
    """Read the runs and write the report; lines that are no records are told on stderr."""
    records, damages = record.read(Path(name) for name in arguments.runs)
    for damage in damages:
        sys.stderr.write(f"{damage}\n")
    if not records:
        raise UserError(f"{', '.join(arguments.runs)}: no records; `bench run` writes them")
    if arguments.output is None:
        sys.stdout.write(report(records))
        return 0
    from bench.plots import draw

    output = Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    figures = draw(rows(records), output.parent, output.stem.lower())
    output.write_text(report(records, figures), encoding="utf-8")
    sys.stderr.write(f"{len(records)} records, report in {output}\n")
    return 0
