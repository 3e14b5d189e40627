"""Builds the table of `bench peers`: each peer's figures, and their ratios to our runtime's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.paired import interleaved, ratio
from bench.analysis.rows import LatencyRecords
from bench.analysis.stats import median
from bench.measure import Timing
from bench.record import Record
from bench.reporting import fmt
from bench.reporting.document import Block, Bullets, Table, Text
from bench.reporting.speed import times

HEADER = (
    *("program", "beside", "takes", "load", "prompt", "first token", "×", "decode, tokens/s", "×"),
    *("peak memory", "×", "processes"),
)
EXPLAINED = (
    "Medians, and under each × the ratio to our runtime in the column `beside`, with its 95 % "
    "interval: over 1 is more time, more tokens a second, more memory. Each process computed with "
    "{threads} and answered the same request ({request}); rounds took turns, so ratios are of "
    "pairs. `prompt` counts its tokens as the program made them of the request: where they differ, "
    "so does the work. Peaks are of whole processes, Python included where there is one. "
    "llama.cpp's programs run our GGUF file."
)


@dataclass(frozen=True)
class Line:
    """One row of the table: a program's `name`, and the runtime that its records name.

    `beside` is our runtime that it is compared with; None: it is ours. `takes`: what prompts it
    can have, in words. `absent` is why it was not measured; None: it was.
    """

    name: str
    runtime: str
    beside: str | None
    takes: str
    absent: str | None = None


def document(
    lines: Sequence[Line], records: Sequence[Record], request: str, threads: int
) -> list[Block]:
    """Returns the table of what was measured, a sentence about it, and a list of what was not.

    `request` describes the request, `threads` is the number that each process computed with.
    """
    groups = _groups(records)
    rows = [_row(line, groups) for line in lines if line.runtime in groups and not line.absent]
    failed = {r.case.runtime: r.reason for r in records if r.status != "ok"}
    missing = [
        f"**{line.name}**: {line.absent or failed.get(line.runtime) or 'it was not measured'}"
        for line in lines
        if line.absent or line.runtime not in groups
    ]
    blocks: list[Block] = []
    if rows:
        words = EXPLAINED.format(request=request, threads=fmt.count(threads, "thread"))
        blocks += [Table(HEADER, rows, left=3), Text(words)]
    return blocks + ([Text("Not measured:"), Bullets(missing)] if missing else [])


def _groups(records: Sequence[Record]) -> Mapping[str, LatencyRecords]:
    """Groups the records that succeeded by their runtime."""
    done = [record for record in records if record.status == "ok" and record.outcome.timings]
    return {
        name: LatencyRecords(own[0].case.options, tuple(own))
        for name in dict.fromkeys(record.case.runtime for record in done)
        if (own := [record for record in done if record.case.runtime == name])
    }


def _row(line: Line, groups: Mapping[str, LatencyRecords]) -> list[str]:
    own = groups[line.runtime]
    base = groups.get(line.beside or "")

    def beside(number: Callable[[Timing], float | None]) -> str:
        if base is None:
            return fmt.ABSENT
        pairs = interleaved(base.started(), own.started())
        return times(ratio(base.rounds(number), own.rounds(number), pairs)).removeprefix("× ")

    def memory() -> str:
        if base is None or not own.peaks():
            return fmt.ABSENT
        sides = [[[float(peak)] for peak in side.peaks()] for side in (base, own)]
        return times(ratio(sides[0], sides[1], True)).removeprefix("× ")

    return [
        line.name,
        line.beside or fmt.ABSENT,
        line.takes,
        fmt.milliseconds(own.load_s()),
        _whole(own.middle(_positions)),
        fmt.milliseconds(own.middle(_first_token)),
        beside(_first_token),
        fmt.significant(own.middle(_rate)),
        beside(_rate),
        fmt.megabytes(median(own.peaks())),
        memory(),
        str(len(own.records)),
    ]


def _whole(value: float | None) -> str:
    return fmt.ABSENT if value is None else f"{value:,.0f}"


def _positions(timing: Timing) -> float | None:
    return timing.prompt_positions


def _first_token(timing: Timing) -> float | None:
    return timing.first_token_s


def _rate(timing: Timing) -> float | None:
    return timing.decode_tokens_per_s
