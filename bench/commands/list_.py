"""`bench list`: lists models, recipes, targets, runtimes, tasks and device profiles.

For runtimes, tasks and profiles that cannot be used here it prints the reason, without importing
their libraries.
"""

import argparse
import json
import sys
from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from bench.machine.profiles import PROFILES, Profile
from bench.reporting.fmt import megabytes
from bench.tasks import TASKS, summary, unavailable
from export.checkpoint.registry import list_models
from export.console import rich_console
from export.quantize.recipe import KNOWN
from export.targets import TARGETS
from runtimes import RUNTIMES

Listing = Mapping[str, Mapping[str, Mapping[str, object]]]


def run(arguments: argparse.Namespace) -> int:
    """Print all tables as text, or with --json as one JSON object; returns 0."""
    tables = listing()
    if arguments.json:
        sys.stdout.write(json.dumps(tables) + "\n")
        return 0
    console = rich_console()
    for title, rows in tables.items():
        table = Table(title=title, title_justify="left", title_style="bold", box=None)
        columns = list(dict.fromkeys(key for row in rows.values() for key in row))
        for column in ("name", *columns):
            table.add_column(column.removesuffix("_bytes"), no_wrap=column == "name")
        for name, row in rows.items():
            table.add_row(name, *(escape(_cell(column, row.get(column))) for column in columns))
        console.print(table)
        console.print()
    return 0


def listing() -> Listing:
    """Return what `bench list` prints: kind ("models", "recipes", …) -> name -> its facts.

    `unavailable` among the facts is the reason why it cannot be used here; None: it can.
    """
    return {
        "models": {
            name: {"from": entry.hub or entry.path or entry.config}
            for name, entry in list_models().items()
        },
        "recipes": {name: {"keeps": _rules(name)} for name in KNOWN},
        "targets": {
            name: {"layouts": target.layouts, "unavailable": target.unavailable()}
            for name, target in TARGETS.items()
        },
        "runtimes": {
            name: {
                "opens": ", ".join(runtime.targets) or runtime.takes,
                "devices": runtime.devices,
                "unavailable": runtime.unavailable(),
            }
            for name, runtime in RUNTIMES.items()
            if not runtime.hidden
        },
        "tasks": {
            name: {"measures": summary(name), "unavailable": unavailable(task)}
            for name, task in TASKS.items()
        },
        "profiles": {name: _profile(profile) for name, profile in PROFILES.items()},
    }


def _profile(profile: Profile) -> Mapping[str, object]:
    able = [RUNTIMES[name] for name in profile.runtimes if profile.device in RUNTIMES[name].devices]
    reasons = [runtime.unavailable(device=profile.device) for runtime in able]
    return {
        "threads": profile.threads,
        "memory_bytes": profile.memory_bytes,
        "device": profile.device,
        "runtimes": profile.runtimes,
        "unavailable": None if None in reasons else "; ".join(filter(None, reasons)),
    }


def _rules(recipe: str) -> str:
    rules = [f"{rule.pattern} {rule.storage.bits} bit" for rule in KNOWN[recipe].rules]
    return ", ".join(rules) or "everything 32 bit"


def _cell(column: str, value: object) -> str:
    if column.endswith("_bytes") and isinstance(value, int):
        return megabytes(value)
    if isinstance(value, tuple | list):
        return ", ".join(str(part) for part in value)
    return "" if value is None else str(value)
