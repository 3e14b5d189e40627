"""Turns records of measurements into a report; the same records give the same report.

NOT aware of how anything was measured, and opens no files: figures are drawn before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis.namesakes import told_apart
from bench.analysis.pareto import Budget
from bench.analysis.rows import Row, by_model, rows, subject_name
from bench.record import Damage, Record, Subject
from bench.reporting import accuracy, fmt, memory, sizes, speed
from bench.reporting.devices import choices, fits
from bench.reporting.disturbances import TITLE, disturbances, warning
from bench.reporting.document import Block, Bullets, Code, Heading, Picture, Table, Text, section
from bench.reporting.fidelity import fidelity
from bench.reporting.findings import findings, opening
from bench.reporting.machines import machines_section
from bench.reporting.markdown import markdown
from bench.reporting.overview import overview
from bench.reporting.proofs import proofs
from bench.reporting.recommendation import choice
from bench.reporting.reproduce import commands, sums
from bench.reporting.roofline import roofline
from bench.reporting.summary import summary

SYNTHETIC = (
    "Random weights of the real shapes: time, memory and size are those of the real model; "
    "answers are meaningless, so accuracy was not measured."
)


@dataclass(frozen=True)
class Figure:
    """A figure that was drawn to an SVG file, for a report to show.

    `file` is the SVG's name in the report's folder; `subject` is any artifact or checkpoint of the
    model that the figure shows, and decides in which model's section it appears.
    """

    file: str
    caption: str
    subject: Subject


def report(
    records: Sequence[Record],
    figures: Sequence[Figure] = (),
    budget: Budget | None = None,
    damages: Sequence[Damage] = (),
) -> str:
    """Writes the whole report on measurement records as markdown.

    `figures` were drawn before; `budget` limits the memory of recommended artifacts (None: no
    limit); `damages` are unreadable lines of the records' files, which the report lists.
    """
    return markdown(document(records, figures, budget, damages))


def document(
    records: Sequence[Record],
    figures: Sequence[Figure] = (),
    budget: Budget | None = None,
    damages: Sequence[Damage] = (),
) -> list[Block]:
    """Builds the whole report as headings, texts and tables, with a section for each model.

    `figures` were drawn before; `budget` limits the memory of recommended artifacts (None: no
    limit); `damages` are unreadable lines of the records' files, which the report lists.
    """
    records = told_apart(records)
    shown = rows(records)
    models = by_model(shown)
    blocks: list[Block] = [Heading(1, "PocketVLM benchmark"), Text(opening(records, shown))]
    blocks += [Text(f"**{_lost(damages)}**")] if damages else []
    blocks += [Text(disturbed)] if (disturbed := warning(records)) else []
    blocks += overview(models, budget)
    for model_rows in models:
        model = (model_rows[0].subject.model, model_rows[0].subject.synthetic)
        fitting = [f for f in figures if (f.subject.model, f.subject.synthetic) == model]
        blocks += _model(model_rows, fitting, budget, _failed(records, *model))
    blocks += _left_out("Failed jobs", [r for r in records if r.status == "failed"])
    blocks += _left_out("Skipped jobs", [r for r in records if r.status == "skipped"])
    blocks += section("Damaged lines", _damaged(damages), level=2)
    blocks += section(TITLE, disturbances(records), level=2)
    blocks += machines_section(records)
    blocks += [Heading(2, "How to reproduce"), Code(commands(records))]
    known = sums(records)
    return [*blocks, Bullets(known)] if known else blocks


def _model(
    model_rows: Sequence[Row],
    figures: Sequence[Figure],
    budget: Budget | None,
    failed: Sequence[Record],
) -> list[Block]:
    model, synthetic = model_rows[0].subject.model, model_rows[0].subject.synthetic
    sentences = findings(model_rows)
    return [
        Heading(2, f"{model}{' (random weights)' if synthetic else ''}"),
        *([Text(SYNTHETIC)] if synthetic else []),
        *([Bullets(sentences)] if sentences else []),
        *summary(model_rows, budget),
        *section("Recommendation", choice(model_rows, budget)),
        *(Picture(figure.file, f"{model}: {figure.caption}") for figure in figures),
        *section("Phases of one request", speed.phases(model_rows)),
        *section("Peak memory by phase", memory.memory(model_rows)),
        *section("What to take on which device", choices(model_rows)),
        *section("Devices it fits", fits(model_rows, failed)),
        *section("Share of the machine's limits", roofline(model_rows)),
        *section("Speed compared", speed.speed(model_rows)),
        *section("Accuracy by task", accuracy.scores(model_rows)),
        *section("Accuracy by part", accuracy.parts(model_rows)),
        *section("Accuracy compared", accuracy.compared(model_rows)),
        *section("Items that could not be used", accuracy.bad(model_rows)),
        *section("Images", accuracy.images(model_rows)),
        *section("Agreement with the reference", fidelity(model_rows)),
        *section("Proof of each artifact", proofs(model_rows)),
        *section("Size by component", sizes.sizes(model_rows)),
        *section("Tensors not stored as the recipe asked", sizes.exceptions(model_rows)),
        *section("Spread of the samples", speed.spread(model_rows)),
    ]


def _failed(records: Sequence[Record], model: str, synthetic: bool) -> list[Record]:
    wanted, subjects = (model, synthetic), [record.case.subject for record in records]
    return [
        record
        for record, subject in zip(records, subjects, strict=True)
        if record.status == "failed" and (subject.model, subject.synthetic) == wanted
    ]


def _left_out(title: str, records: Sequence[Record]) -> list[Block]:
    """Builds a section on jobs without results: a line per reason, with artifacts and runtimes."""
    subjects: dict[tuple[str, ...], dict[str, None]] = {}
    for record in records:
        case, reason = record.case, record.reason or fmt.ABSENT
        subjects.setdefault((case.runtime, case.task, reason), {})[_full_name(case.subject)] = None
    runtimes: dict[tuple[str, ...], list[str]] = {}
    for (runtime, *why), names in subjects.items():
        runtimes.setdefault((fmt.listed(list(names)), *why), []).append(runtime)
    lines = [[what, fmt.listed(found), *why] for (what, *why), found in runtimes.items()]
    table = Table(["artifact", "runtime", "task", "reason"], lines, left=4)
    return section(title, [table] if lines else [], level=2)


def _lost(damages: Sequence[Damage]) -> str:
    lines = fmt.count(len(damages), "damaged line")
    return (
        f"The runs have {lines}, which {'is' if len(damages) == 1 else 'are'} left out (see below)."
    )


def _damaged(damages: Sequence[Damage]) -> list[Block]:
    lines = [[damage.file, str(damage.line), damage.reason] for damage in damages]
    return [Table(["file", "line", "problem"], lines, left=3)] if lines else []


def _full_name(subject: Subject) -> str:
    return f"{subject.model} {subject_name(subject)}"
