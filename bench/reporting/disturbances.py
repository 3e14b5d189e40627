"""Disturbances that records note: a table of them, and a warning for the top of a report.

Disturbed records stay in every figure.
"""

import re
from collections.abc import Sequence

from bench.analysis.rows import subject_name
from bench.record import Record
from bench.reporting import fmt
from bench.reporting.document import Block, Table
from bench.tasks import is_latency

TITLE = "Disturbances during the measurement"
NUMBER = re.compile(r"(?<= )[+-]?\d+(?:\.\d+)?(?=[ %×])")
SHOWN = 2  # jobs named one by one


def warning(records: Sequence[Record]) -> str:
    """A sentence with the number of disturbed jobs; empty if there are none."""
    done = [record for record in records if record.status == "ok"]
    disturbed = sum(bool(record.noise) for record in done)
    if not disturbed:
        return ""
    several = f"{disturbed:,} of the {len(done):,} measured jobs"
    return (
        f"{'The only measured job' if len(done) == 1 else several} ran disturbed, so the figures "
        f'are less certain than their intervals suggest: see "{TITLE}".'
    )


def disturbances(records: Sequence[Record]) -> list[Block]:
    """A line for each kind of note, most frequent first: its range of numbers and its jobs."""
    kinds: dict[str, list[tuple[str, Record]]] = {}
    for record in records:
        for note in record.noise:
            kinds.setdefault(NUMBER.sub("{}", note, count=1), []).append((note, record))
    lines = [
        [_note(kind, [note for note, _ in found]), _jobs([r for _, r in found]), str(len(found))]
        for kind, found in sorted(kinds.items(), key=lambda item: -len(item[1]))
    ]
    return [Table(["disturbance", "jobs", "number of jobs"], lines, left=2)] if lines else []


def _note(kind: str, notes: Sequence[str]) -> str:
    numbers = [found.group() for note in notes if (found := NUMBER.search(note))]
    if not numbers:
        return kind
    low, high = min(numbers, key=float), max(numbers, key=float)
    return kind.replace("{}", low if low == high else f"{low} to {high}", 1)


def _jobs(records: Sequence[Record]) -> str:
    """The first few jobs by name with their rounds, and how many more there are."""
    rounds: dict[str, list[str]] = {}
    for record in records:
        case = record.case
        name = f"{case.subject.model} {subject_name(case.subject)} on {case.runtime}: {case.task}"
        rounds.setdefault(name, []).append(str(case.round + 1))
    jobs = [_job(name, found) for name, found in list(rounds.items())[:SHOWN]]
    more = f" and {len(rounds) - SHOWN} more" if len(rounds) > SHOWN else ""
    return "; ".join(jobs) + more


def _job(name: str, rounds: Sequence[str]) -> str:
    if not is_latency(name.rpartition(": ")[2]):
        return name
    return f"{name}, round{'s' if len(rounds) > 1 else ''} {fmt.listed(rounds)}"
