"""Draws a report's figures with matplotlib: to SVG files, or as SVG text for an HTML page."""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis.pareto import Budget
from bench.analysis.rows import Row, by_model
from bench.reporting import charts
from bench.reporting.report import Figure
from export.files import file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

WIDE_INCHES, NARROW_INCHES = 7.2, 4.4


@dataclass(frozen=True)
class Plot:
    """A kind of figure.

    `select` returns a true value for results of an artifact (a Row) that the figure can show.
    `paint` draws the selected results into an empty matplotlib figure.
    """

    caption: str
    select: Callable[[Row], object]
    paint: Callable[["Canvas", Sequence[Row], Budget | None], None]


PLOTS: Mapping[str, Plot] = {
    "accuracy": Plot(
        "accuracy against size and latency",
        lambda row: row.accuracy and row.subject.disk_bytes and row.subject.target,
        charts.accuracy,
    ),
    "decode": Plot("decode rate", lambda row: row.decode_tokens_per_s(), charts.decode),
    "first-token": Plot(
        "time to the first token", lambda row: row.first_token_s(), charts.first_token
    ),
    "memory": Plot("peak memory by phase", lambda row: row.counted_bytes, charts.memory),
    "storage": Plot(
        "how the weights are kept, and how many tensors fell back",
        lambda row: row.subject.quantization and row.subject.quantization.types,
        charts.storage,
    ),
}


def draw(
    shown: Sequence[Row], folder: Path, stem: str, budget: Budget | None = None
) -> tuple[Figure, ...]:
    """Draws each kind of figure for each model, where there is data, to SVG files in `folder`.

    `shown` are the results to draw; file names begin with `stem`. The memory figure shows `budget`
    as a line. Returns the figures, which a report refers to by file name.
    """
    done = []
    for name, rows in _drawable(shown):
        with _style(stem):
            canvas = _canvas(name, rows, WIDE_INCHES, budget, titled=True)
            figure = _figure(name, rows, stem)
            canvas.savefig(folder / figure.file, metadata={"Date": None})
        done.append(figure)
    return tuple(done)


def inline(
    shown: Sequence[Row], stem: str, budget: Budget | None = None
) -> tuple[tuple[Figure, ...], Mapping[str, str]]:
    """Draws each kind of figure for each model, narrow and untitled, to embed in an HTML page.

    Writes no file: returns the figures, and the SVG text of each by its `file` name. `shown` are
    the results to draw; the memory figure shows `budget` as a line.
    """
    figures, drawn = [], {}
    for name, rows in _drawable(shown):
        with _style(stem, fonttype="none"):
            canvas = _canvas(name, rows, NARROW_INCHES, budget, titled=False)
            figure, text = _figure(name, rows, stem), io.StringIO()
            canvas.savefig(text, format="svg", transparent=True, metadata={"Date": None})
        figures.append(figure)
        drawn[figure.file] = text.getvalue()
    return tuple(figures), drawn


def _drawable(shown: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for model_rows in by_model(shown):
        for name, plot in PLOTS.items():
            rows = [row for row in model_rows if plot.select(row)]
            if rows:
                yield name, rows


def _style(stem: str, fonttype: str = "path") -> AbstractContextManager[None]:
    import matplotlib as mpl

    ink = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"),
        charts.INK,
    )
    rules: dict[Any, Any] = {
        **ink,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "svg.fonttype": fonttype,
        "svg.hashsalt": stem,  # the same records give the same file
    }
    return mpl.rc_context(rules)


def _canvas(
    name: str, rows: Sequence[Row], width_inches: float, budget: Budget | None, titled: bool
) -> "Canvas":
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width_inches, 2.0), layout="constrained")
    if titled:
        mark = " (random weights)" if rows[0].subject.synthetic else ""
        title = f"{rows[0].subject.model}{mark}: {PLOTS[name].caption}"
        canvas.suptitle(title, x=0.01, ha="left", fontsize=10)
    PLOTS[name].paint(canvas, rows, budget)
    return canvas


def _figure(name: str, rows: Sequence[Row], stem: str) -> Figure:
    mark = "-random" if rows[0].subject.synthetic else ""
    model = rows[0].subject.model
    own = file_name(model)
    if own != model:  # two names must not become one
        own += f"-{hashlib.sha256(model.encode(errors='surrogatepass')).hexdigest()[:8]}"
    file = f"{stem}-{own}{mark}-{name}.svg"
    return Figure(file, PLOTS[name].caption, rows[0].subject)
