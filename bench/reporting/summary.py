"""Builds a report's main table of a model, with a legend; a line per artifact and runtime."""

from collections.abc import Callable, Sequence

from bench.analysis.pareto import Budget, in_a_profile, smallest_profile
from bench.analysis.rows import Row, names
from bench.analysis.stats import Estimate
from bench.reporting import fmt
from bench.reporting.document import Block, Table, Text
from bench.tasks.latency import request_name

BUSY = "beside a busy process, tokens/s"


def summary(rows: Sequence[Row], budget: Budget | None = None) -> list[Block]:
    """Builds a table of size, memory, speed and accuracy, and its legend.

    A column says whether each artifact's peak memory fits `budget`; without a budget, it names the
    smallest device that the peak fits. Columns without data are left out.
    """
    elsewhere = any(row.device != "cpu" for row in rows)
    columns = {
        "device": [row.device if elsewhere else fmt.ABSENT for row in rows],
        "GPU memory": [fmt.megabytes(row.device_bytes) for row in rows],
        "first token, ms": fmt.intervals([row.first_token_s() for row in rows], 1e3),
        "decode, tokens/s": fmt.intervals([row.decode_tokens_per_s() for row in rows]),
        BUSY: fmt.intervals([row.contended_tokens_per_s() for row in rows]),
        "accuracy": fmt.shares([row.accuracy_share() for row in rows]),
        "KLD, nats": [_kld(row) for row in rows],
        f"fits {budget.name}" if budget else "fits": [_fits(row, budget) for row in rows],
        _held_title(rows): [_held(row) for row in rows],
    }
    lines = [
        [
            name,
            row.runtime,
            fmt.megabytes(row.subject.disk_bytes),
            fmt.megabytes(row.peak_bytes),
            *(cells[index] for cells in columns.values()),
        ]
        for index, (row, name) in enumerate(zip(rows, names(rows), strict=True))
    ]
    header = ["artifact", "runtime", "size on disk", "peak memory", *columns]
    return [Table(*fmt.known(header, lines, left=4), left=2), Text(_legend(rows, budget))]


TINY_NATS = 1e-6  # far below what changes an answer


def _kld(row: Row) -> str:
    """Formats the mean KL divergence with its interval; `under 1e-6` if it is below TINY_NATS."""
    kld = row.kld()
    bound = None if kld is None else kld.high if kld.high is not None else kld.value
    tiny = bound is not None and bound < TINY_NATS
    return f"under {fmt.significant(TINY_NATS, 1)}" if tiny else fmt.interval(kld)


def _fits(row: Row, budget: Budget | None) -> str:
    """Says whether the peak fits the budget; without one, names the smallest device it fits."""
    if budget is None:
        return smallest_profile(row) or ("none" if in_a_profile(row) else fmt.ABSENT)
    return {True: "yes", False: "no", None: fmt.ABSENT}[budget.holds(row)]


def _held_title(rows: Sequence[Row]) -> str:
    profiles = list(dict.fromkeys(row.profile for row in rows if row.profile))
    return f"limited to {fmt.listed(profiles)}"


def _held(row: Row) -> str:
    """Says whether a process limited to a device profile's memory stayed within it, in MB."""
    if row.fits is None or row.profile is None:
        return fmt.ABSENT
    peak = fmt.megabytes(row.counted_bytes).removesuffix(" MB")
    verdict = "fits" if row.fits else "does not fit"
    holder = f" ({row.held_by})" if row.held_by else ""
    return f"{verdict}: {peak} of {fmt.megabytes(row.budget_bytes)}{holder}"


def _legend(rows: Sequence[Row], budget: Budget | None) -> str:
    parts = [
        _latency(rows),
        _counts(f"Accuracy: {_scored_as(rows)} {_task(rows)}", rows, Row.accuracy_share),
        _counts(
            "KLD: mean KL divergence from the reference's next-token distributions", rows, Row.kld
        ),
        "Brackets are 95 % intervals, a dash means not measured, MB are 10^6 bytes. "
        "Peak memory is that of the whole process with its interpreter and libraries.",
        _fitting(rows, budget),
    ]
    return " ".join(part for part in parts if part)


def _scored_as(rows: Sequence[Row]) -> str:
    graded = any(row.graded for row in rows)
    return "the mean score on" if graded else "the share of right answers to"


def _task(rows: Sequence[Row]) -> str:
    return next((row.main_task for row in rows if row.main_task), "")


def _latency(rows: Sequence[Row]) -> str:
    measured = [row for row in rows if row.latency]
    if not measured:
        return ""
    requests = dict.fromkeys(request_name(row.latency.options) for row in measured if row.latency)
    used = {n for row in measured if row.latency for n in row.latency.threads}
    threads = fmt.listed([str(n) for n in sorted(used)])
    processes = {len(row.latency.records) for row in measured if row.latency}
    counts = {e.n for row in measured if (e := row.first_token_s())}
    medians = f"medians of {_span(counts)} requests" if counts else "medians"
    return (
        f"Latency: {fmt.listed(list(requests))}, threads: {threads}, {medians} from "
        f"{_span(processes)} {'process' if processes == {1} else 'processes'}."
    )


def _counts(title: str, rows: Sequence[Row], number: Callable[[Row], Estimate | None]) -> str:
    counts = {found.n for row in rows if (found := number(row))}
    return f"{title}, n = {_span(counts)}." if counts else ""


def _fitting(rows: Sequence[Row], budget: Budget | None) -> str:
    if all(row.peak_bytes is None for row in rows):
        return ""
    if budget is None:
        return "Fits: the smallest device profile with enough memory for the measured peak."
    return f"Fits: the measured peak is at most {fmt.megabytes(budget.memory_bytes)}."


def _span(counts: set[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
