"""Builds a report's first table: the recommended artifact of each model."""

from collections.abc import Sequence

from bench.analysis.pareto import Budget, choose
from bench.analysis.rows import Row, names
from bench.reporting import fmt
from bench.reporting.document import Block, Table, Text

HEADER = (
    *("model", "recommended", "runtime", "size on disk", "peak memory", "first token, ms"),
    *("decode, tokens/s", "accuracy"),
)
EXPLAINED = "The recommended artifact of each model; its section has the reasons and alternatives."


def overview(models: Sequence[Sequence[Row]], budget: Budget | None) -> list[Block]:
    """Builds a table with the recommended artifact of each model; [] if fewer than two have one.

    `models` has a list of results for each model; `budget` limits the memory (None: no limit).
    """
    taken = [
        (rows[index], names(rows)[index])
        for rows in models
        if (index := choose(rows, budget).chosen) is not None
    ]
    if len(taken) < 2:
        return []
    chosen = [row for row, _ in taken]
    columns = zip(
        fmt.intervals([row.first_token_s() for row in chosen], 1e3),
        fmt.intervals([row.decode_tokens_per_s() for row in chosen]),
        fmt.shares([row.accuracy_share() for row in chosen]),
        strict=True,
    )
    lines = [
        [
            *(row.subject.model, name, row.runtime, fmt.megabytes(row.subject.disk_bytes)),
            *(fmt.megabytes(row.peak_bytes), *cells),
        ]
        for (row, name), cells in zip(taken, columns, strict=True)
    ]
    return [Table(list(HEADER), lines, left=3), Text(EXPLAINED)]
