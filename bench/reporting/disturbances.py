"""Reports disturbances of the measurements (noted in the records): a table and a warning.

Disturbed measurements are not left out of any number.
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
SHOWN = 2  # jobs listed; a count stands for the others


def warning(records: Sequence[Record]) -> str:
    """Says in a sentence how many jobs were disturbed; "" if none was."""
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
    """Builds a table with a line for each kind of disturbance, the most frequent first.

    Notes that differ only in their first number are of one kind; the line has the range of these
    numbers and the jobs. [] without disturbances.
    """
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
    """Lists the first two jobs with their rounds, and says how many more there are."""
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
