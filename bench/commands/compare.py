"""`bench compare`: prints what got better or worse between two runs; exit code 1 if worse."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from bench import record
from bench.analysis.compare import Compared, compare
from bench.reporting.markdown import markdown
from bench.reporting.verdict import verdict
from export.errors import UserError


def run(arguments: argparse.Namespace) -> int:
    """Compare two files of records and print the result; returns 1 if something got worse, else 0.

    Lines that are not records are reported on stderr. Raises UserError for a file without records.
    """
    base, new = (_read(name) for name in (arguments.base, arguments.new))
    compared = compare(base, new, arguments.tolerance / 100, arguments.points / 100)
    text = json.dumps(facts(compared)) + "\n" if arguments.json else markdown(verdict(compared))
    sys.stdout.write(text)
    return 1 if compared.regressed else 0


def facts(compared: Compared) -> dict[str, object]:
    """Return the comparison as the object that --json prints.

    `numbers` has an object for each quantity, `lost` one for each job that newly fails;
    `models_that_differ` a line for each model whose files are others in the newer run.
    """
    numbers = []
    for comparison in compared.comparisons:
        subject = comparison.subject
        names = {"model": subject.model, "target": subject.target, "recipe": subject.recipe}
        numbers.append({**names, **{k: v for k, v in vars(comparison).items() if k in PLAIN}})
        numbers[-1]["change"] = {key: getattr(comparison.change, key) for key in CHANGE}
        numbers[-1]["options"] = asdict(comparison.options) if comparison.options else None
    lost = [
        {"runtime": r.case.runtime, "task": r.case.task, "reason": r.reason} for r in compared.lost
    ]
    return {
        "regressed": compared.regressed,
        "numbers": numbers,
        "lost": lost,
        "models_that_differ": compared.weights,
    }


PLAIN = ("runtime", "number", "base", "new", "relative", "verdict", "sure", "needed")
CHANGE = ("value", "low", "high", "n", "paired")


def _read(name: str) -> list[record.Record]:
    records, damages = record.read([Path(name)])
    for damage in damages:
        sys.stderr.write(f"{damage}\n")
    if not records:
        raise UserError(f"{name}: there are no records; `bench run -o {name}` writes them")
    return records
