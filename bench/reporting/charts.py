"""Draws each kind of figure of a report into an empty matplotlib figure that the caller passes.

The caller chooses its width; the height is set here, from the number of lines or bars.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.analysis.pareto import Budget, front
from bench.analysis.rows import Row, names
from bench.analysis.stats import Estimate
from bench.machine.memory import PHASES
from bench.measure import Timing
from bench.reporting.fmt import significant
from bench.reporting.memory import PHASE_TITLES
from bench.tasks.latency import IMAGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# Okabe and Ito's palette, distinguishable with any colour vision (jfly.uni-koeln.de/color).
BLUE, ORANGE, GREEN, PURPLE, GRAY = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#8a8a8a"
RED = "#d55e00"
LIGHT, INK = "#d9d9d9", "#1f2021"
COLOURS = {"onnxruntime": BLUE, "llama_cpp": ORANGE, "reference": GRAY}
OTHERS = (GREEN, PURPLE, RED)
MARKERS = {"fp32": "D", "fp16": "s", "int8": "o", "int4": "^", None: "*"}


STEPS: tuple[tuple[str, str, Callable[[Timing], float | None]], ...] = (
    ("prepare", GRAY, lambda timing: timing.prepare_s),
    (f"image ({IMAGE})", ORANGE, lambda timing: timing.image_s),
    ("prefill", BLUE, lambda timing: timing.prefill_s),
)
# Colour of parameters by their bits.
STORAGE = {32: GRAY, 16: PURPLE, 8: BLUE, 6: GREEN, 5: GREEN, 4: ORANGE}
LEGEND_INCHES, CHARACTER_INCHES = 0.5, 0.07  # a legend entry without its text; a character at 9 pt
WIDE = 6.0  # inches from which two panels fit in a row


def accuracy(canvas: "Canvas", rows: Sequence[Row], budget: Budget | None) -> None:
    """Draws accuracy over disk size and over request time, in two panels with Pareto fronts."""
    costs: list[tuple[str, Callable[[Row], float | None]]] = [
        ("size on disk, MB (logarithmic)", lambda row: _scaled(row.subject.disk_bytes, 1e-6)),
        ("one request, ms (logarithmic)", lambda row: _value(row.total_s(), 1e3)),
    ]
    costs = [cost for cost in costs if any(cost[1](row) is not None for row in rows)]
    beside = canvas.get_figwidth() >= WIDE
    grid = (1, len(costs)) if beside else (len(costs), 1)
    _height(canvas, (2.6 if beside else 2.2 * len(costs)) + 0.16 * len(rows) + 0.3)
    panels = canvas.subplots(*grid, squeeze=False, sharey=beside).flat
    for axes, (title, cost) in zip(panels, costs, strict=True):
        _tradeoff(axes, rows, cost)
        axes.set_xlabel(title)
    for axes in canvas.axes[:1] if beside else canvas.axes:
        axes.set_ylabel("right answers, %")
    _legend(canvas, columns=3 if beside else 2)


def decode(canvas: "Canvas", rows: Sequence[Row], budget: Budget | None) -> None:
    """Draws a bar for each artifact and runtime: its decode rate in tokens/s with its interval."""
    axes = _bars(canvas, rows)
    ends = []
    for slot, row in enumerate(rows):
        rate = row.decode_tokens_per_s()
        if rate is not None:
            axes.barh(slot, rate.value, height=0.62, color=_colour(row, rows))
            axes.errorbar(
                rate.value, slot, xerr=_errors(rate), fmt="none", color=INK, capsize=3, lw=1.1
            )
            ends.append(max(rate.value, rate.high or 0.0))
            _end_label(axes, ends[-1], slot, significant(rate.value))
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.set_xlim(0, 1.16 * max(ends))
    axes.set_xlabel("tokens/s, median with 95 % interval")


def first_token(canvas: "Canvas", rows: Sequence[Row], budget: Budget | None) -> None:
    """Draws a stacked bar for each artifact and runtime: median times up to the first token."""
    axes = _bars(canvas, rows)
    ends = []
    for slot, row in enumerate(rows):
        left = 0.0
        for title, colour, step in STEPS:
            width = 1e3 * ((row.latency.middle(step) if row.latency else None) or 0.0)
            if width:
                axes.barh(slot, width, 0.62, left=left, color=colour, label=_once(axes, title))
            left += width
        whole = _value(row.first_token_s(), 1e3) or left
        # Medians of steps need not add up to the median of the whole.
        axes.plot(
            [whole, whole],
            [slot - 0.4, slot + 0.4],
            color=INK,
            lw=1.5,
            label=_once(axes, "whole"),
        )
        ends.append(max(left, whole))
        _end_label(axes, ends[-1], slot, significant(whole))
    axes.set_xlim(0, 1.16 * max(ends))
    axes.set_xlabel("ms, medians; the number is the whole")
    _legend(canvas, columns=4 if canvas.get_figwidth() >= WIDE else 2)


def memory(canvas: "Canvas", rows: Sequence[Row], budget: Budget | None) -> None:
    """Draws a line for each artifact and runtime: its peak memory in each phase.

    On a GPU it is GPU memory. The budget is drawn if it is below 2.5 times the highest peak.
    """
    _height(canvas, 2.5 + 0.16 * len(rows) + 0.2)
    axes = canvas.add_subplot()
    peaks = [[_peak_mb(row, phase) for phase in PHASES] for row in rows]
    for row, name, line in zip(rows, names(rows), peaks, strict=True):
        known = [(n, peak) for n, peak in enumerate(line) if peak is not None]
        axes.plot(*zip(*known, strict=True), **_look(row, rows), label=f"{name}, {row.runtime}")
    highest = max(peak for line in peaks for peak in line if peak is not None)
    top = 1.08 * highest
    limit = _limit_mb(rows, budget)
    if limit is not None and limit < 2.5 * highest:
        top = max(top, 1.12 * limit)
        axes.axhline(limit, color=RED, ls="--", lw=1.2, label=f"budget, {significant(limit)} MB")
    wrapped = [PHASE_TITLES[phase].replace(" ", "\n") for phase in PHASES]
    axes.set_xticks(range(len(PHASES)), wrapped)
    axes.set_ylim(0, top)
    axes.grid(axis="y", color=LIGHT, lw=0.6)
    axes.set_axisbelow(True)
    axes.set_ylabel(_counted([row.device == "cpu" for row in rows]))
    _legend(canvas, columns=3 if canvas.get_figwidth() >= WIDE else 2)


def storage(canvas: "Canvas", rows: Sequence[Row], budget: Budget | None) -> None:
    """Draws a bar for each artifact: the shares of its parameters stored at 4, 8, … bits.

    The label counts the tensors that are not stored in the type their recipe asks for.
    """
    artifacts = list({row.subject.sha256: row for row in rows}.values())
    axes = _bars(canvas, artifacts, runtime=False)
    quantizations = [row.subject.quantization for row in artifacts if row.subject.quantization]
    kept = [_by_bits(quantization.types) for quantization in quantizations]
    left = [0.0] * len(artifacts)
    for bits in sorted({bits for shares in kept for bits in shares}, reverse=True):
        widths, colour = [shares.get(bits, 0.0) for shares in kept], STORAGE.get(bits, LIGHT)
        axes.barh(range(len(artifacts)), widths, 0.62, left=left, color=colour, label=f"{bits} bit")
        left = [end + width for end, width in zip(left, widths, strict=True)]
    for slot, quantization in enumerate(quantizations):
        fell = len(quantization.fallbacks)
        _end_label(axes, 100, slot, f"{fell} fell back" if fell else "as asked")
    axes.set_xlim(0, 124 if canvas.get_figwidth() >= WIDE else 138)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("share of parameters, %")
    _legend(canvas, columns=5)


def _tradeoff(axes: "Axes", rows: Sequence[Row], cost: Callable[[Row], float | None]) -> None:
    points = []
    for row, name in zip(rows, names(rows), strict=True):
        share, price = row.accuracy_share(), cost(row)
        if share is None or price is None:
            continue
        points.append((price, 100 * share.value))
        look = _look(row, rows) | {"ls": "none", "capsize": 3, "elinewidth": 1}
        axes.errorbar(*points[-1], _errors(share, 100), label=f"{name}, {row.runtime}", **look)
    ahead = sorted(points[n] for n in front([(price, -share) for price, share in points]))
    line: dict[str, Any] = {"color": INK, "lw": 1, "ls": ":", "drawstyle": "steps-post"}
    ring: dict[str, Any] = {"marker": "o", "ms": 12, "mfc": "none", "mew": 0.9, "zorder": 3}
    axes.plot(*zip(*ahead, strict=True), label="Pareto front", **line, **ring)
    axes.margins(y=0.1)
    axes.set_xscale("log")
    _log_ticks(axes, [price for price, _ in points])
    axes.margins(y=0.1)
    axes.grid(axis="y", color=LIGHT, lw=0.6)
    axes.set_axisbelow(True)


def _log_ticks(axes: "Axes", values: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = min(values) / 1.25, max(values) * 1.25
    axes.set_xlim(low, high)
    fine = high / low < 10
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if fine else (1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")


def _bars(canvas: "Canvas", rows: Sequence[Row], runtime: bool = True) -> "Axes":
    """Adds axes with a labelled place for the horizontal bar of each row, the first at the top."""
    _height(canvas, 1.1 + 0.4 * max(len(rows), 2))
    axes: Axes = canvas.add_subplot()
    labels = [
        f"{name}\n{row.runtime}" if runtime else name
        for row, name in zip(rows, names(rows), strict=True)
    ]
    axes.set_yticks(range(len(rows)), labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    return axes


def _height(canvas: "Canvas", inches: float) -> None:
    canvas.set_figheight(inches)


def _look(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """Returns the style of a row's line: the colour shows its runtime, the marker its recipe."""
    marker = MARKERS.get(row.subject.recipe, "P")
    return {
        "color": _colour(row, rows),
        "marker": marker,
        "ms": 8 if marker == "*" else 5.5,
        "lw": 1.3,
    }


def _colour(row: Row, rows: Sequence[Row]) -> str:
    if row.runtime in COLOURS:
        return COLOURS[row.runtime]
    others = list(dict.fromkeys(r.runtime for r in rows if r.runtime not in COLOURS))
    return OTHERS[others.index(row.runtime) % len(OTHERS)]


def _by_bits(types: Mapping[str, int]) -> Mapping[int, float]:
    """Returns the per cent of the parameters stored with each number of bits.

    `types` maps a storage type to its parameters; the first number in the type's name (`Q4_0`,
    `int4 in blocks of 32`, `float16`) is its bits.
    """
    total, shares = sum(types.values()), dict[int, float]()
    for name, count in types.items():
        digits = re.search(r"\d+", name)
        bits = int(digits.group()) if digits else 0
        shares[bits] = shares.get(bits, 0.0) + 100 * count / total
    return shares


def _limit_mb(rows: Sequence[Row], budget: Budget | None) -> float | None:
    if budget is not None:
        return budget.memory_bytes / 1e6
    held = {row.budget_bytes for row in rows}
    return _scaled(held.pop(), 1e-6) if len(held) == 1 else None


def _peak_mb(row: Row, phase: str) -> float | None:
    if row.latency is None:
        return None
    counted = row.latency.peak_bytes if row.device == "cpu" else row.latency.device_bytes
    return _scaled(counted(phase), 1e-6)


def _counted(on_cpu: Sequence[bool]) -> str:
    if all(on_cpu):
        return "peak of the process, MB"
    return "peak of the process, or of its GPU memory, MB" if any(on_cpu) else "GPU memory, MB"


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _value(estimate: Estimate | None, scale: float) -> float | None:
    return estimate.value * scale if estimate else None


def _once(axes: "Axes", label: str) -> str | None:
    """Returns the label if these axes do not have it yet, else None: a legend needs it once."""
    return None if label in axes.get_legend_handles_labels()[1] else label


def _end_label(axes: "Axes", x: float, y: float, label: str) -> None:
    axes.annotate(
        label, (x, y), (6, 0), textcoords="offset points", va="center", annotation_clip=False
    )


def _legend(canvas: "Canvas", columns: int) -> None:
    """Adds one legend for all panels, with at most `columns` columns: fewer for long labels."""
    by_label: dict[str, Any] = {}
    for axes in canvas.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            by_label.setdefault(label, handle)
    handles, labels = list(by_label.values()), list(by_label)
    widest = LEGEND_INCHES + CHARACTER_INCHES * max(map(len, labels))
    columns = max(1, min(columns, int(canvas.get_figwidth() / widest)))
    canvas.legend(handles, labels, loc="outside lower left", ncols=columns, frameon=False)


def _errors(estimate: Estimate, scale: float = 1.0) -> list[list[float]] | None:
    if estimate.low is None or estimate.high is None:
        return None
    low, high = estimate.value - estimate.low, estimate.high - estimate.value
    return [[max(0.0, low) * scale], [max(0.0, high) * scale]]
