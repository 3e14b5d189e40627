"""Generates the results in a page (README.md) from records, between two marker comments."""

import re
from collections.abc import Sequence

from bench.analysis.machines import machines
from bench.analysis.pareto import Budget
from bench.analysis.rows import by_model, rows
from bench.record import Record
from bench.reporting.document import Block, Heading, Text
from bench.reporting.machines import short_name
from bench.reporting.markdown import markdown
from bench.reporting.summary import summary
from export.errors import UserError

START = "<!-- results: bench report RUN.jsonl --readme README.md -->"
END = "<!-- end of results -->"
# A page names its own runs and itself in the first marker.
MARKERS = re.compile(r"(<!-- results: .*? -->).*?" + re.escape(END), re.DOTALL)
EMPTY = (
    "No records yet. When there are,\n"
    "`bench report RUN.jsonl --readme README.md` puts their summary here."
)


def block(records: Sequence[Record], budget: Budget | None = None) -> str:
    """Writes markdown with a summary table of each model, and the machines that were measured on.

    `budget` is the memory that artifacts should fit (None: the table names the smallest device that
    fits). Without results, the text says how to get some.
    """
    shown = rows(records)
    if not shown:
        return EMPTY
    blocks: list[Block] = []
    for model_rows in by_model(shown):
        mark = " (random weights)" if model_rows[0].subject.synthetic else ""
        blocks += [Heading(3, model_rows[0].subject.model + mark), *summary(model_rows, budget)]
    blocks.append(Text(f"Measured on {'; '.join(short_name(e) for e in machines(records))}."))
    return markdown(blocks).strip()


def filled(page: str, content: str) -> str:
    """Returns the text `page` with what is between its two markers replaced by `content`.

    Raises UserError if a marker is missing.
    """
    markers = MARKERS.search(page)
    if markers is None:
        raise UserError(f"it has no block of results; put these lines into it: {START} and {END}")
    return f"{page[: markers.start()]}{markers[1]}\n\n{content}\n\n{END}{page[markers.end() :]}"
