"""Figures of a report: rows in, SVG and PNG files out.

NOT aware of how anything was measured, nor of the report's text.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.format import significant
from bench.memory import PHASES
from bench.report import Figure
from bench.stats import Estimate
from bench.summary import Row, by_model, names
from bench.tables import PHASE_TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, told apart with any colour vision (jfly.uni-koeln.de/color).
BLUE, ORANGE, GREEN, PURPLE, GRAY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#999999"
LIGHT = "#DDDDDD"
STEPS = (
    ("prepare_s", "prepare", GRAY),
    ("image_s", "image", ORANGE),
    ("prefill_s", "prefill", BLUE),
)
PHASE_COLOURS = dict(zip(PHASES, (GRAY, PURPLE, ORANGE, BLUE, GREEN), strict=True))


def draw(shown: Sequence[Row], folder: Path, stem: str) -> tuple[Figure, ...]:
    """Draw what the rows have data for: for each model, one SVG and one PNG of each figure."""
    import matplotlib as mpl

    style = mpl.rc_context(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
            "svg.hashsalt": stem,  # the same records give the same file
        }
    )
    with style:
        return tuple(
            _figure(name, own, folder, stem)
            for rows in by_model(shown)
            for name, (_, select, _) in FIGURES.items()
            if (own := [row for row in rows if select(row)])
        )


def _figure(name: str, own: Sequence[Row], folder: Path, stem: str) -> Figure:
    from matplotlib.figure import Figure as Canvas

    caption, _, paint = FIGURES[name]
    model = own[0].subject.model
    mark = "-random" if own[0].subject.synthetic else ""
    canvas = Canvas(figsize=(7.2, _height_inches(len(own))), layout="constrained")
    axes = canvas.add_subplot()
    axes.set_title(f"{model}{' (random weights)' if mark else ''}: {caption}")
    paint(axes, own)
    file = f"{stem}-{model}{mark}-{name}"
    canvas.savefig(folder / f"{file}.svg", metadata={"Date": None})
    canvas.savefig(folder / f"{file}.png", dpi=150)
    return Figure(f"{file}.svg", caption, own[0].subject)


def _height_inches(count: int) -> float:
    return 1.2 + 0.42 * max(count, 2)


def _accuracy(axes: "Axes", own: Sequence[Row]) -> None:
    """Size over accuracy: intervals lie flat, so names fit beside them."""
    from matplotlib.ticker import LogLocator, NullLocator

    points = []
    for row, name in zip(own, names(own), strict=True):
        share, size = row.accuracy_share(), row.subject.disk_bytes
        if share is not None and size is not None:
            points.append((size / 1e6, f"{name}, {row.runtime}"))
            axes.errorbar(
                *(100 * share.value, size / 1e6),
                xerr=_errors(share, 100),
                fmt="o",
                color=_colour(row),
                capsize=3,
            )
    sizes = [size for size, _ in points]
    axes.set_yscale("log")
    axes.set_ylim(min(sizes) / 1.3, max(sizes) * 1.3)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel("size on disk, MB")
    axes.set_xlabel("accuracy, %, with 95 % interval")
    _side_labels(axes, sorted(points))


def _side_labels(axes: "Axes", points: Sequence[tuple[float, str]]) -> None:
    """Names at the right edge at their heights, upwards, pushed apart where they would touch."""
    low, high = (math.log(bound) for bound in axes.get_ylim())
    lowest = 0.0
    for y, label in points:
        own = (math.log(y) - low) / (high - low)
        height = max(own, lowest)
        lowest = height + 0.19 / (_height_inches(len(points)) - 0.85)  # a line of text, in axes
        line = {"arrowstyle": "-", "color": LIGHT, "shrinkA": 2, "shrinkB": 0, "relpos": (0, 0.5)}
        start, end = (1.0, own), (1.04, height)
        axes.axhline(y, color=LIGHT, linewidth=1, zorder=0)
        axes.annotate(
            label, start, end, "axes fraction", "axes fraction", arrowprops=line, va="center"
        )


def _decode(axes: "Axes", own: Sequence[Row]) -> None:
    """Bars with intervals, the figure at the bar's end."""
    for place, row in enumerate(own):
        rate = row.decode_tokens_per_s()
        if rate is not None:
            axes.barh(place, rate.value, xerr=_errors(rate), color=_colour(row), capsize=3)
            end = rate.high if rate.high is not None else rate.value
            _end_label(axes, end, place, significant(rate.value))
    _names(axes, own)
    axes.set_xlabel("tokens/s, median with 95 % interval")


def _first_token(axes: "Axes", own: Sequence[Row]) -> None:
    """Medians of the steps before the first token, one behind the other."""
    for place, row in enumerate(own):
        left = 0.0
        for number, title, colour in STEPS:
            width = 1e3 * (_step_s(row, number) or 0.0)
            axes.barh(place, width, left=left, color=colour, label=title if place == 0 else None)
            left += width
        total = row.first_token_s()
        if total is not None:  # medians of steps need not add up to the median of the whole
            whole, label = 1e3 * total.value, "whole" if place == 0 else None
            axes.plot(whole, place, "|", color="black", ms=15, mew=1.5, ls="", label=label)
            _end_label(axes, max(left, whole), place, significant(whole))
    _names(axes, own)
    _legend(axes)
    axes.set_xlabel("ms, medians")


def _memory(axes: "Axes", own: Sequence[Row]) -> None:
    """A dot for each phase's peak on one line for each row."""
    for place, row in enumerate(own):
        peaks = {phase: _peak_mb(row, phase) for phase in PHASES}
        known = [peak for peak in peaks.values() if peak is not None]
        axes.plot([0, max(known)], [place, place], color=LIGHT, zorder=1)
        for n, (phase, peak) in enumerate(peaks.items()):
            if peak is not None:
                label = PHASE_TITLES[phase] if place == 0 else None
                y = place + 0.12 * (n - 2)
                axes.scatter(peak, y, color=PHASE_COLOURS[phase], label=label, zorder=2, s=26)
        _end_label(axes, max(known), place, significant(max(known)))
    _names(axes, own)
    axes.set_xlim(left=0, right=1.12 * axes.dataLim.x1)
    _legend(axes)
    axes.set_xlabel("MB, peak of the process within the phase; at the end: the highest")


def _step_s(row: Row, number: str) -> float | None:
    found = row.workload.over(lambda timing: getattr(timing, number)) if row.workload else None
    return found.value if found else None


def _peak_mb(row: Row, phase: str) -> float | None:
    peak = row.workload.peak_bytes(phase) if row.workload else None
    return None if peak is None else peak / 1e6


def _names(axes: "Axes", own: Sequence[Row]) -> None:
    labels = [f"{name}, {row.runtime}" for row, name in zip(own, names(own), strict=True)]
    axes.set_yticks(range(len(own)), labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(own) - 0.4, -0.6)  # the first row is the topmost
    axes.margins(x=0.12)


def _end_label(axes: "Axes", x: float, y: float, label: str) -> None:
    axes.annotate(label, (x, y), (6, 0), textcoords="offset points", va="center")


def _legend(axes: "Axes") -> None:
    axes.figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False
    )


def _errors(estimate: Estimate, scale: float = 1.0) -> list[list[float]] | None:
    if estimate.low is None or estimate.high is None:
        return None
    low, high = estimate.value - estimate.low, estimate.high - estimate.value
    return [[max(0.0, low) * scale], [max(0.0, high) * scale]]


def _colour(row: Row) -> str:
    return {"onnx": BLUE, "gguf": ORANGE}.get(row.subject.target or "", GRAY)


Select = Callable[[Row], object]
Paint = Callable[["Axes", Sequence[Row]], None]
# name -> caption, which rows have the data, how they are drawn
FIGURES: Mapping[str, tuple[str, Select, Paint]] = {
    "accuracy": (
        "accuracy on easy-VQA and size",
        lambda row: row.accuracy and row.subject.disk_bytes,
        _accuracy,
    ),
    "decode": ("decode rate", lambda row: row.decode_tokens_per_s(), _decode),
    "first-token": ("time to the first token", lambda row: row.first_token_s(), _first_token),
    "memory": (
        "peak memory by phase",
        lambda row: row.workload and row.workload.highest_peak_bytes(),
        _memory,
    ),
}
