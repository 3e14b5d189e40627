"""Writes a report's recommendation: which artifact to take, by accuracy, time and memory."""

from collections.abc import Sequence

from bench.analysis.pareto import AS_FAST, Budget, Choice, choose
from bench.analysis.rows import Row, names
from bench.analysis.stats import Estimate
from bench.reporting import fmt
from bench.reporting.document import Block, Text


def choice(rows: Sequence[Row], budget: Budget | None) -> list[Block]:
    """Writes two paragraphs: the Pareto front, and which artifact to take and why.

    `budget` limits the peak memory of that artifact; None: no limit. Returns [] if fewer than two
    artifacts were measured on PocketVLM's runtimes.
    """
    chosen = choose(rows, budget)
    if len(chosen.candidates) < 2:
        return []
    scored = any(rows[index].accuracy for index in chosen.candidates)
    parts = [_front(rows, chosen, scored), _recommended(rows, chosen, budget, scored)]
    return [Text(part) for part in parts]


def _front(rows: Sequence[Row], choice: Choice, scored: bool) -> str:
    labels, dropped = _labels(rows), [p for p in choice.candidates if p not in choice.front]
    numbers = f"{'accuracy, ' if scored else ''}request time and peak memory"
    ahead = f"Pareto front of {numbers}: {fmt.listed([labels[p] for p in choice.front])}."
    if not dropped:
        return f"{ahead} None is dominated by another."
    beaten = fmt.listed([labels[index] for index in dropped])
    return f"{ahead} Dominated by one of these: {beaten}."


def _recommended(rows: Sequence[Row], choice: Choice, budget: Budget | None, scored: bool) -> str:
    labels = _labels(rows)
    within = f"within {_limit(budget)}" if budget else ""
    if not scored:
        fitting = fmt.listed([labels[index] for index in choice.fitting]) or "nothing"
        fits = f"{within[0].upper()}{within[1:]}: {fitting}. " if budget else ""
        return (
            f"{fits}Nothing is recommended, because accuracy was not measured and the fastest "
            "artifact may be the least accurate."
        )
    if choice.chosen is None:
        return f"**Nothing fits {within}**: the smallest peak is {_least(rows, choice)}."
    rule = (
        f"it has the lowest peak memory among artifacts that {f'stay {within}, ' if budget else ''}"
        "are not significantly less accurate than the best of them (McNemar's test, 5 %) and "
        f"take at most {100 * AS_FAST - 100:.0f} % longer than the fastest of them"
    )
    ask = "" if budget else " `--budget-mb` and `--profile` limit the memory."
    return f"**Take {labels[choice.chosen]}**: {rule}.{_as_fast(rows, choice)}{ask}"


def _limit(budget: Budget) -> str:
    size = fmt.megabytes(budget.memory_bytes)
    return size if budget.name == size else f"{budget.name} ({size})"


def _as_fast(rows: Sequence[Row], choice: Choice) -> str:
    """Names the accurate artifacts that are about as fast as the chosen one, in a sentence.

    Their 95 % intervals of request time overlap; "" if there are none.
    """
    chosen = rows[choice.chosen].total_s() if choice.chosen is not None else None
    labels = _labels(rows)
    close = [
        labels[index]
        for index in choice.accurate
        if index != choice.chosen
        and chosen is not None
        and (total := rows[index].total_s()) is not None
        and _overlap(chosen, total)
    ]
    return (
        f" Its request time does not differ significantly from that of {fmt.listed(close)}."
        if close
        else ""
    )


def _least(rows: Sequence[Row], choice: Choice) -> str:
    index = min(choice.candidates, key=lambda p: rows[p].counted_bytes or 0)
    return f"{fmt.megabytes(rows[index].counted_bytes)} ({_labels(rows)[index]})"


def _labels(rows: Sequence[Row]) -> list[str]:
    return [f"{name} on {row.runtime}" for row, name in zip(rows, names(rows), strict=True)]


def _overlap(first: Estimate, second: Estimate) -> bool:
    bounds = (first.low, first.high, second.low, second.high)
    if None in bounds:
        return True
    low_1, high_1, low_2, high_2 = (bound or 0.0 for bound in bounds)
    return low_1 <= high_2 and low_2 <= high_1
