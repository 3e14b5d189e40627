"""Builds a report's tables of device profiles: what to take on each, and what fits it."""

from collections.abc import Sequence

from bench.analysis.pareto import Budget, profile_budget
from bench.analysis.per_device import Assignment, assignments
from bench.analysis.rows import Row, names, subject_name
from bench.machine.profiles import PROFILES
from bench.record import Record
from bench.reporting import fmt
from bench.reporting.document import Block, Bullets, Table, Text

CHOSEN = (
    "Chosen as in the recommendation, from the artifacts whose runtime exists on the device and "
    "whose peak, measured on this machine, fits the memory that it gives one process."
)


def choices(rows: Sequence[Row]) -> list[Block]:
    """Builds a table: which artifact to take on the devices of each profile, or that none fits.

    `rows` are those of one model. Devices that some artifact fits have no line if accuracy was not
    measured. [] if there are no lines.
    """
    labels = names(rows)
    found = [one for one in assignments(rows) if one.chosen is not None or one.excess_bytes]
    if not found:
        return []
    header = ["device", "memory", "artifact", "runtime", "measured peak", "accuracy"]
    lines = [
        [one.budget.name, fmt.megabytes(one.budget.memory_bytes), *_taken(rows, labels, one)]
        for one in found
    ]
    return [Table(*fmt.known(header, lines, left=3), left=4), Text(CHOSEN)]


def _taken(rows: Sequence[Row], labels: Sequence[str], found: Assignment) -> list[str]:
    """Names the chosen artifact with its runtime, peak and accuracy; or says that none fits."""
    if found.chosen is None:
        row, more = rows[found.smallest], fmt.megabytes(found.excess_bytes)
        text = f"**none fits**: {labels[found.smallest]} needs {more} more"
        return [text, row.runtime, fmt.megabytes(row.counted_bytes), fmt.ABSENT]
    row = rows[found.chosen]
    peak = f"{fmt.megabytes(row.counted_bytes)}, {_share(row, found.budget)}"
    return [labels[found.chosen], row.runtime, peak, *fmt.shares([row.accuracy_share()])]


def fits(rows: Sequence[Row], failed: Sequence[Record]) -> list[Block]:
    """Builds a table: does an artifact's measured peak memory fit a device (each of PROFILES)?

    It has a line for each artifact and runtime. Below are those of the `failed` jobs that exceeded
    the memory of the profile they were limited to. [] if there is neither.
    """
    budgets = [profile_budget(name) for name in PROFILES]
    lines = [
        [name, row.runtime, fmt.megabytes(row.counted_bytes), *(_cell(row, b) for b in budgets)]
        for row, name in zip(rows, names(rows), strict=True)
        if row.counted_bytes is not None
    ]
    header = ["artifact", "runtime", "measured peak"]
    header += [f"{budget.name}, {fmt.megabytes(budget.memory_bytes)}" for budget in budgets]
    explained = (
        "Peaks measured on this machine, as shares of the memory that a device gives one process; "
        "a dash marks a device without the runtime. Other CPUs may pack weights differently."
    )
    blocks: list[Block] = []
    if lines:
        blocks = [Table(*fmt.known(header, lines, left=3), left=2), Text(explained)]
    stopped = list(dict.fromkeys(_stopped(r) for r in failed if r.outcome.fits is False))
    return [*blocks, Bullets(stopped)] if stopped else blocks


def _cell(row: Row, budget: Budget) -> str:
    if row.counted_bytes is None or not budget.has(row):
        return fmt.ABSENT
    share = _share(row, budget)
    return f"fits, {share}" if budget.holds(row) else f"**does not fit**, {share}"


def _share(row: Row, budget: Budget) -> str:
    """Formats the measured peak as a share of the budget."""
    assert row.counted_bytes is not None
    return f"{row.counted_bytes / budget.memory_bytes:.0%}".replace("%", " %")


def _stopped(record: Record) -> str:
    case = record.case
    what = f"{subject_name(case.subject)} on {case.runtime}"
    return f"{what}, held to {case.profile}: {record.reason}"
