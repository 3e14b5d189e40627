"""Builds a report's tables of time: a request's steps, speeds compared, and their spread."""

from collections.abc import Callable, Mapping, Sequence

from bench.analysis.paired import Change, interleaved, ratio
from bench.analysis.rows import LatencyRecords, Row, coarseness, names
from bench.analysis.stats import mad, median, outliers
from bench.measure import Timing
from bench.reporting import fmt
from bench.reporting.document import Block, Table, Text
from bench.tasks.latency import IMAGE


def phases(rows: Sequence[Row]) -> list[Block]:
    """Builds a table of the median time of each step of a request: load, image, prefill, …

    It has a line for each artifact, runtime and kind of request; [] without latency data.
    """
    header = [
        *("artifact", "runtime", "request", "load", "cold load", "prepare", "image", "prefill"),
        *("prefill rate", "first token", "token p50", "token p95", "total"),
    ]
    lines = [
        [name, row.runtime, _request(latency), *_steps(latency)]
        for row, name in zip(rows, names(rows), strict=True)
        for latency in row.latencies
    ]
    if not lines:
        return []
    explained = (
        "Medians of each step; first token and total are measured from the request. "
        f"`prepare` preprocesses an image of {IMAGE} and tokenizes the question."
    )
    return [Table(*fmt.known(header, lines, left=3), left=3), Text(explained)]


SPEEDS: Mapping[str, Callable[[Timing], float | None]] = {
    "first token": lambda timing: timing.first_token_s,
    "decode rate": lambda timing: timing.decode_tokens_per_s,
    "whole request": lambda timing: timing.total_s,
}


def speed(rows: Sequence[Row]) -> list[Block]:
    """Builds a table of each artifact's times and decode rate as multiples of a base's.

    The base is the original checkpoint; without one, the artifact with the most bits per weight.
    [] if there is nothing to compare.
    """
    timed = [(row, name) for row, name in zip(rows, names(rows), strict=True) if row.latency]
    if len(timed) < 2:
        return []
    base, base_name = min(timed, key=lambda pair: coarseness(pair[0]))
    lines = []
    for row, name in timed:
        cells = [] if row is base else _speed(base, row)
        lines += [[name, row.runtime, *cells]] if cells else []
    if not lines:
        return []
    explained = (
        f"Relative to {base_name} on {base.runtime}, with 95 % intervals. Interleaved rounds are "
        "compared in pairs, because a temporary slowdown of the machine affects both. A change "
        "whose interval spans more than a factor of ten is marked unsure; more rounds narrow it."
    )
    header = ["artifact", "runtime", *SPEEDS, "processes", "paired"]
    return [Text(explained), Table(header, lines, left=2)]


SHOWN = 3  # outliers listed; a count stands for the others


SPREADS: Mapping[str, tuple[Callable[[Timing], float | None], float, str]] = {
    "first token": (lambda timing: timing.first_token_s, 1e3, "ms"),
    "decode rate": (lambda timing: timing.decode_tokens_per_s, 1.0, "tokens/s"),
}


def spread(rows: Sequence[Row]) -> list[Block]:
    """Builds a table of how much an artifact's requests scatter, with outliers; [] without data."""
    lines = []
    for row, name in zip(rows, names(rows), strict=True):
        for title, (number, scale, unit) in SPREADS.items():
            rounds = row.latency.rounds(number) if row.latency else []
            cells = _spread([[scale * sample for sample in group] for group in rounds], unit)
            lines += [[name, row.runtime, title, *cells]] if cells else []
    if not lines:
        return []
    header = ["artifact", "runtime", "quantity", "n", "median", "MAD", "lowest", "highest"]
    explained = (
        "MAD is the median distance from the median. Outliers have a modified z-score beyond 3.5 "
        "(Iglewicz and Hoaglin 1993); they are listed as process/request and stay in every "
        "figure."
    )
    return [Table([*header, "outliers"], lines, left=3), Text(explained)]


def _speed(base: Row, row: Row) -> list[str]:
    if base.latency is None or row.latency is None:
        return []
    if base.latency.options != row.latency.options or base.machine != row.machine:
        return []
    pairs = interleaved(base.latency.started(), row.latency.started())
    changes = [
        ratio(base.latency.rounds(number), row.latency.rounds(number), pairs)
        for number in SPEEDS.values()
    ]
    n = next((str(change.n) for change in changes if change), fmt.ABSENT)
    return [*(times(change) for change in changes), n, "yes" if pairs else "no"]


def times(change: Change | None) -> str:
    """Formats a relative change as a factor with its interval: + 25 % is `× 1.25 [1.20, 1.31]`."""
    if change is None:
        return fmt.ABSENT
    factors = [None if c is None else 1 + c for c in (change.value, change.low, change.high)]
    value, low, high = map(fmt.significant, factors)
    if change.low is None or change.high is None or change.unsure:
        return f"× {value}, unsure"
    return f"× {value} [{low}, {high}]"


def _spread(rounds: Sequence[Sequence[float]], unit: str) -> list[str]:
    positions = [(r + 1, n + 1) for r, group in enumerate(rounds) for n in range(len(group))]
    samples = [sample for group in rounds for sample in group]
    if not samples:
        return []
    out = [
        f"{positions[n][0]}/{positions[n][1]}: {fmt.significant(samples[n])}"
        for n in outliers(samples)
    ]
    figures = (median(samples), mad(samples), min(samples), max(samples))
    cells = [f"{fmt.significant(figure)} {unit}" for figure in figures]
    more = [f"{len(out) - SHOWN} more"] if len(out) > SHOWN else []
    return [str(len(samples)), *cells, ", ".join([*out[:SHOWN], *more]) or "none"]


def _request(latency: LatencyRecords) -> str:
    prompt = latency.records[0].outcome.timings[0].prompt_positions
    positions = f" ({prompt} positions)" if prompt is not None else ""
    options = latency.options
    asked = "image" if options.prompt == "image" else f"{options.prefill_tokens} text tokens"
    beside = ", beside a busy process" if options.contended else ""
    return f"{asked}{positions} + {options.decode_tokens} tokens{beside}"


def _steps(latency: LatencyRecords) -> list[str]:
    def step(number: str) -> str:
        return fmt.milliseconds(latency.middle(lambda timing: _number(timing, number)))

    rate = latency.middle(lambda timing: timing.prefill_tokens_per_s)
    return [
        fmt.milliseconds(latency.load_s()),
        fmt.milliseconds(latency.cold_load_s()),
        *(step(name) for name in ("prepare_s", "image_s", "prefill_s")),
        f"{fmt.significant(rate)}/s" if rate else fmt.ABSENT,
        step("first_token_s"),
        fmt.milliseconds(latency.token_s(50)),
        fmt.milliseconds(latency.token_s(95)),
        step("total_s"),
    ]


def _number(timing: Timing, name: str) -> float | None:
    value: float | None = getattr(timing, name)
    return value
