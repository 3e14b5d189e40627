"""A report's tables of size, time and memory: rows in, blocks out, none where nothing is known.

NOT aware of how a report is put together.
"""

from collections.abc import Callable, Mapping, Sequence

from bench.analysis.pareto import Budget, in_a_profile, smallest_profile
from bench.analysis.rows import Row, Workload, names
from bench.analysis.stats import Estimate, mad, median, outliers
from bench.machine.memory import PHASES
from bench.measure import Timing
from bench.record import Options
from bench.reporting import format as text
from bench.reporting.document import Block, Table, Text
from bench.tasks.latency import IMAGE_SIZE

PHASE_TITLES: Mapping[str, str] = {
    "start": "libraries imported",
    "loaded": "loading",
    "image": "image",
    "prefill": "prefill",
    "decode": "decode",
}
IMAGE = f"{IMAGE_SIZE[0]} × {IMAGE_SIZE[1]} pixels"


def summary(own: Sequence[Row], budget: Budget | None = None) -> list[Block]:
    """One line for each row, and what the figures are of."""
    elsewhere = any(row.device != "cpu" for row in own)
    columns = {
        "device": [row.device if elsewhere else text.ABSENT for row in own],
        "GPU memory": [text.megabytes(row.device_bytes) for row in own],
        "first token, ms": text.intervals([row.first_token_s() for row in own], 1e3),
        "decode, tokens/s": text.intervals([row.decode_tokens_per_s() for row in own]),
        "accuracy": text.shares([row.accuracy_share() for row in own]),
        "KLD, nats": [_kld(row) for row in own],
        f"fits {budget.name}" if budget else "fits": [_fits(row, budget) for row in own],
        _held_title(own): [_held(row) for row in own],
    }
    lines = [
        [
            name,
            row.runtime,
            text.megabytes(row.subject.disk_bytes),
            text.megabytes(row.peak_bytes),
            *(cells[place] for cells in columns.values()),
        ]
        for place, (row, name) in enumerate(zip(own, names(own), strict=True))
    ]
    header = ["artifact", "runtime", "size on disk", "peak memory", *columns]
    return [Table(*text.known(header, lines, left=4), left=2), Text(_legend(own, budget))]


def phases(own: Sequence[Row]) -> list[Block]:
    """Medians of each step, one line for each row and length."""
    header = [
        *("artifact", "runtime", "request", "load", "cold load", "prepare", "image", "prefill"),
        *("prefill rate", "first token", "token p50", "token p95", "total"),
    ]
    lines = [
        [name, row.runtime, _request(workload), *_steps(workload)]
        for row, name in zip(own, names(own), strict=True)
        for workload in row.workloads
    ]
    if not lines:
        return []
    explained = (
        "Medians of each step alone; the first token and the total count from the request. "
        f"`prepare` turns an image of {IMAGE} into what the model takes, and a question into ids."
    )
    return [Table(*text.known(header, lines, left=3), left=3), Text(explained)]


def memory(own: Sequence[Row]) -> list[Block]:
    """The process's highest resident set within each phase; mapped files stated apart."""
    lines = []
    for row, name in zip(own, names(own), strict=True):
        if row.workload:
            peaks = [row.workload.peak_bytes(phase) for phase in PHASES]
            parts = [row.workload.last_bytes(part) for part in ("pss_bytes", "file_bytes")]
            figures = (*peaks, *parts, row.workload.device_bytes())
            lines.append([name, row.runtime, *map(text.megabytes, figures)])
    if not lines:
        return []
    phase_titles = (PHASE_TITLES[phase] for phase in PHASES)
    header = ["artifact", "runtime", *phase_titles, "PSS at the end", "files of it", "GPU at most"]
    explained = (
        "The highest resident set (VmHWM) within each phase, the process's interpreter and "
        "libraries included. PSS is what it alone has in memory and its share of what others have "
        "mapped, too; files are pages of PSS, such as weights read in place, that the system may "
        "drop and read again."
    )
    table = Table(*text.known(header, lines, left=2), left=2)
    return [table, Text(explained + _gpu_explained(own))]


def _gpu_explained(own: Sequence[Row]) -> str:
    """Whose figure the GPU's memory is."""
    on_gpu = [row for row in own if row.device != "cpu" and row.workload]
    if not on_gpu:
        return ""
    said = " GPU memory is read at the end of each phase, as its driver counts it for the process"
    if any(row.workload and "card" in row.workload.device_sources() for row in on_gpu):
        said += (
            "; where it lists no processes, it is what the whole card gave away since the process "
            "began, when nobody else was listed on it"
        )
    if any(row.device_bytes is None for row in on_gpu):
        said += "; it is absent where the driver lists others and not this process, or nothing"
    return f"{said}."


TINY_NATS = 1e-6
SHOWN = 3  # outliers named one by one
SPREADS: Mapping[str, tuple[Callable[[Timing], float | None], float, str]] = {
    "first token": (lambda timing: timing.first_token_s, 1e3, "ms"),
    "decode rate": (lambda timing: timing.decode_tokens_per_s, 1.0, "tokens/s"),
}


def spread(own: Sequence[Row]) -> list[Block]:
    """How much the requests of each row differ, and which of them are out of line."""
    lines = []
    for row, name in zip(own, names(own), strict=True):
        for title, (number, scale, unit) in SPREADS.items():
            rounds = row.workload.rounds(number) if row.workload else []
            cells = _spread([[scale * sample for sample in group] for group in rounds], unit)
            lines += [[name, row.runtime, title, *cells]] if cells else []
    if not lines:
        return []
    header = ["artifact", "runtime", "number", "n", "median", "MAD", "lowest", "highest"]
    explained = (
        "MAD is the median distance from the median. Outliers have a modified z-score beyond 3.5 "
        "(Iglewicz and Hoaglin 1993); they are named by process and request and left in every "
        "figure."
    )
    return [Table([*header, "outliers"], lines, left=3), Text(explained)]


def request_name(options: Options) -> str:
    """What a latency request is."""
    image = f"an image of {IMAGE}" if options.prompt == "image" else None
    if image and options.max_tiles:
        image += f" in at most {options.max_tiles} tile{'s' if options.max_tiles > 1 else ''}"
    return f"{image or f'{options.prefill_tokens} text tokens'} + {options.decode_tokens} tokens"


def _kld(row: Row) -> str:
    """Its interval; far below what changes an answer, a bound says it better than digits do."""
    found = row.kld()
    bound = None if found is None else found.high if found.high is not None else found.value
    tiny = bound is not None and bound < TINY_NATS
    return f"under {text.significant(TINY_NATS, 1)}" if tiny else text.interval(found)


def _fits(row: Row, budget: Budget | None) -> str:
    """Yes or no for a budget; without one, the smallest profile that holds the peak."""
    if budget is None:
        return smallest_profile(row) or ("none" if in_a_profile(row) else text.ABSENT)
    return {True: "yes", False: "no", None: text.ABSENT}[budget.holds(row)]


def _held_title(own: Sequence[Row]) -> str:
    profiles = list(dict.fromkeys(row.profile for row in own if row.profile))
    return f"held to {text.listed(profiles)}"


def _held(row: Row) -> str:
    """Whether a process that was held to a profile stayed within its memory."""
    if row.fits is None or row.profile is None:
        return text.ABSENT
    peak = text.megabytes(row.counted_bytes).removesuffix(" MB")
    verdict = "fits" if row.fits else "does not fit"
    holder = f" ({row.held_by})" if row.held_by else ""
    return f"{verdict}: {peak} of {text.megabytes(row.budget_bytes)}{holder}"


def _spread(rounds: Sequence[Sequence[float]], unit: str) -> list[str]:
    places = [(r + 1, n + 1) for r, group in enumerate(rounds) for n in range(len(group))]
    samples = [sample for group in rounds for sample in group]
    if not samples:
        return []
    out = [
        f"{places[n][0]}/{places[n][1]}: {text.significant(samples[n])}" for n in outliers(samples)
    ]
    figures = (median(samples), mad(samples), min(samples), max(samples))
    cells = [f"{text.significant(figure)} {unit}" for figure in figures]
    more = [f"{len(out) - SHOWN} more"] if len(out) > SHOWN else []
    return [str(len(samples)), *cells, ", ".join([*out[:SHOWN], *more]) or "none"]


def _request(workload: Workload) -> str:
    prompt = workload.records[0].outcome.timings[0].prompt_positions
    positions = f" ({prompt} positions)" if prompt is not None else ""
    options = workload.options
    asked = "image" if options.prompt == "image" else f"{options.prefill_tokens} text tokens"
    return f"{asked}{positions} + {options.decode_tokens} tokens"


def _steps(workload: Workload) -> list[str]:
    def step(number: str) -> str:
        return text.milliseconds(workload.middle(lambda timing: _number(timing, number)))

    rate = workload.middle(lambda timing: timing.prefill_tokens_per_s)
    return [
        text.milliseconds(workload.load_s()),
        text.milliseconds(workload.cold_load_s()),
        *(step(name) for name in ("prepare_s", "image_s", "prefill_s")),
        f"{text.significant(rate)}/s" if rate else text.ABSENT,
        step("first_token_s"),
        text.milliseconds(workload.token_s(50)),
        text.milliseconds(workload.token_s(95)),
        step("total_s"),
    ]


def _number(timing: Timing, name: str) -> float | None:
    value: float | None = getattr(timing, name)
    return value


def _legend(own: Sequence[Row], budget: Budget | None) -> str:
    parts = [
        _latency(own),
        _counts(f"Accuracy: {_scored_as(own)} {_task(own)}", own, Row.accuracy_share),
        _counts("KLD: mean divergence from the reference's next-token distributions", own, Row.kld),
        "Brackets are 95 % intervals, a dash is what was not measured, MB are 10^6 bytes. "
        "Peak memory is that of the whole process, its interpreter and libraries included.",
        _fitting(own, budget),
    ]
    return " ".join(part for part in parts if part)


def _scored_as(own: Sequence[Row]) -> str:
    graded = any(row.graded for row in own)
    return "the mean score on" if graded else "the share of right answers to"


def _task(own: Sequence[Row]) -> str:
    return next((row.main_task for row in own if row.main_task), "")


def _latency(own: Sequence[Row]) -> str:
    measured = [row for row in own if row.workload]
    if not measured:
        return ""
    requests = dict.fromkeys(request_name(row.workload.options) for row in measured if row.workload)
    threads = text.listed([str(n) for n in sorted({row.threads for row in measured})])
    processes = {len(row.workload.records) for row in measured if row.workload}
    counts = {e.n for row in measured if (e := row.first_token_s())}
    medians = f"medians of {_span(counts)} requests" if counts else "medians"
    return (
        f"Latency: {text.listed(list(requests))}, threads: {threads}, {medians} from "
        f"{_span(processes)} {'process' if processes == {1} else 'processes'}."
    )


def _counts(title: str, own: Sequence[Row], number: Callable[[Row], Estimate | None]) -> str:
    counts = {found.n for row in own if (found := number(row))}
    return f"{title}, n = {_span(counts)}." if counts else ""


def _fitting(own: Sequence[Row], budget: Budget | None) -> str:
    if all(row.peak_bytes is None for row in own):
        return ""
    if budget is None:
        return "Fits: the smallest device profile whose memory holds the peak measured here."
    return f"Fits: the peak measured here stays within {text.megabytes(budget.memory_bytes)}."


def _span(counts: set[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
