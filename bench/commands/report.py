"""`bench report`: makes markdown, HTML and figures from records, or a README's summary."""

import argparse
import sys
from pathlib import Path

from bench import record
from bench.analysis.pareto import Budget, profile_budget
from bench.analysis.rows import rows
from bench.record import Damage, Record
from bench.reporting.fmt import count, in_bytes
from bench.reporting.html import page
from bench.reporting.readme import block, filled
from bench.reporting.report import document, report
from export.errors import UserError


def run(arguments: argparse.Namespace) -> int:
    """Read files of records and print or write the report; returns 0.

    Lines that are not records are reported on stderr. Raises UserError if there are no records.
    """
    records, damages = record.read(Path(name) for name in arguments.runs)
    for damage in damages:
        sys.stderr.write(f"{damage}\n")
    if not records:
        raise UserError(
            f"{', '.join(arguments.runs)}: there are no records; `bench run` writes them"
        )
    budget = _budget(arguments)
    if arguments.readme is not None:
        _fill(Path(arguments.readme), records, budget)
    if arguments.output is not None:
        _write(Path(arguments.output), records, budget, damages)
    elif arguments.readme is None:
        sys.stdout.write(report(records, (), budget, damages))
    return 0


def _budget(arguments: argparse.Namespace) -> Budget | None:
    if arguments.profile is not None:
        return profile_budget(arguments.profile)
    if arguments.budget_mb is not None:
        return Budget(f"{arguments.budget_mb:,} MB", arguments.budget_mb * 10**6)
    return None


def _write(
    output: Path, records: list[Record], budget: Budget | None, damages: list[Damage]
) -> None:
    """Write the markdown file, its figures, and an HTML page that has the figures embedded."""
    from bench.reporting.plots import draw, inline

    html, stem = output.with_suffix(".html"), output.stem.lower()
    if html == output:
        raise UserError(f"-o {output}: is the HTML page; name the markdown, for example REPORT.md")
    shown = rows(records)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        figures = draw(shown, output.parent, stem, budget)
        output.write_bytes(in_bytes(report(records, figures, budget, damages)))
        figures, drawings = inline(shown, stem, budget)
        text = page(document(records, figures, budget, damages), drawings)
        html.write_bytes(in_bytes(text))
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror})") from error
    sys.stderr.write(f"{count(len(records), 'record')}, report in {output} and {html}\n")


def _fill(readme: Path, records: list[Record], budget: Budget | None) -> None:
    try:
        text = filled(readme.read_text(encoding="utf-8"), block(records, budget))
        readme.write_bytes(in_bytes(text))
    except OSError as error:
        raise UserError(f"--readme {readme}: {error.strerror}") from error
    except UserError as error:
        raise UserError(f"--readme {readme}: {error}") from error
    sys.stderr.write(f"{len(records)} records, summary in {readme}\n")
