"""The block of README.md that comes from records: between two markers, nothing else is touched.

Pure. NOT aware of files.
"""

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

START = "<!-- results: bench report results/runs/*.jsonl --readme README.md -->"
END = "<!-- end of results -->"
EMPTY = (
    "No records are kept in results/runs/ yet. When there are,\n"
    "`bench report results/runs/*.jsonl --readme README.md` puts their summary here."
)


def block(records: Sequence[Record], budget: Budget | None = None) -> str:
    """The summary of each model, and where it was measured."""
    shown = rows(records)
    if not shown:
        return EMPTY
    blocks: list[Block] = []
    for model_rows in by_model(shown):
        mark = " (random weights)" if model_rows[0].subject.synthetic else ""
        blocks += [Heading(3, model_rows[0].subject.model + mark), *summary(model_rows, budget)]
    blocks.append(Text(f"Measured on {'; '.join(short_name(e) for e in machines(records))}."))
    return markdown(blocks).strip()


def filled(readme: str, content: str) -> str:
    """The README with `content` between the markers. Raises UserError where they are not."""
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise UserError(f"no place for results; put these lines into it: {START} and {END}")
    return f"{before}{START}\n\n{content}\n\n{END}{after}"
