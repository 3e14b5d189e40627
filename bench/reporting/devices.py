"""Builds a report's table of the device profiles that each artifact's measured memory fits."""

from collections.abc import Sequence

from bench.analysis.pareto import Budget, profile_budget
from bench.analysis.rows import Row, names, subject_name
from bench.machine.profiles import PROFILES
from bench.record import Record
from bench.reporting import fmt
from bench.reporting.document import Block, Bullets, Table, Text


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
    share = f"{row.counted_bytes / budget.memory_bytes:.0%}".replace("%", " %")
    return f"fits, {share}" if budget.holds(row) else f"**does not fit**, {share}"


def _stopped(record: Record) -> str:
    case = record.case
    what = f"{subject_name(case.subject)} on {case.runtime}"
    return f"{what}, held to {case.profile}: {record.reason}"
