"""Records as a report in markdown: pure, so the same records give the same bytes.

NOT aware of how anything was measured, nor of files: figures are names given to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench import format as text
from bench.environment import Environment
from bench.record import Record, Subject
from bench.reproduce import commands
from bench.stats import mcnemar
from bench.summary import Row, by_model, machines, names, rows, subject_name
from bench.tables import exceptions, fidelity, memory, phases, proofs, sizes, summary
from bench.words import paragraph


@dataclass(frozen=True)
class Figure:
    """A drawn figure beside the report."""

    file: str
    caption: str
    subject: Subject
    """Any subject of the model that it shows."""


def report(records: Sequence[Record], figures: Sequence[Figure] = ()) -> str:
    """The whole report. Models in order of appearance, each with its tables."""
    shown = rows(records)
    parts = ["# PocketVLM benchmark", paragraph(records, shown)]
    for own in by_model(shown):
        model = (own[0].subject.model, own[0].subject.synthetic)
        fitting = [f for f in figures if (f.subject.model, f.subject.synthetic) == model]
        parts += _model(own, fitting)
    parts += _left_out("Failed jobs", [r for r in records if r.status == "failed"])
    parts += _left_out("Skipped jobs", [r for r in records if r.status == "skipped"])
    parts += _machines(records)
    parts += ["## How to measure this again", commands(records)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _model(own: Sequence[Row], figures: Sequence[Figure]) -> list[str]:
    model, synthetic = own[0].subject.model, own[0].subject.synthetic
    mark = " (random weights)" if synthetic else ""
    note = (
        "Random weights of the real geometry: time, memory and size are those of the real model; "
        "answers mean nothing, so there is no accuracy."
    )
    return [
        f"## {model}{mark}",
        note if synthetic else "",
        summary(own),
        *(f"![{model}: {figure.caption}]({figure.file})" for figure in figures),
        *_section("Phases of one request", phases(own)),
        *_section("Peak memory by phase", memory(own)),
        *_section("Agreement with the reference", fidelity(own)),
        *_section("Accuracy side by side", _paired(own)),
        *_section("Proof of each artifact", proofs(own)),
        *_section("Where the bytes are", sizes(own)),
        *_section("Weights not kept as the recipe asked", exceptions(own)),
    ]


def _section(title: str, body: str) -> list[str]:
    return [f"### {title}", body] if body else []


def _paired(own: Sequence[Row]) -> str:
    """Each row against the first one with an accuracy: the reference, or what is most exact."""
    scored = [(row, name) for row, name in zip(own, names(own), strict=True) if row.accuracy]
    if len(scored) < 2:
        return ""
    scored.sort(key=lambda pair: _coarseness(pair[0]))
    (base, base_name), others = scored[0], scored[1:]
    lines = []
    for row, name in others:
        pair = mcnemar(_correct(base), _correct(row))
        if pair is not None:
            change = 100 * (pair.only_second - pair.only_first) / pair.n
            counts = [str(pair.only_first), str(pair.only_second), f"{pair.n:,}"]
            points = f"{change:+.2f} points"
            lines.append([name, row.runtime, points, *counts, text.significant(pair.p, 2)])
    header = ["artifact", "runtime", "change", "only base right", "only this right", "n", "p"]
    explained = (
        f"The same questions, compared one by one with {base_name} on {base.runtime}. "
        "p is McNemar's exact test: how often chance alone would give a split this uneven."
    )
    return f"{explained}\n\n{text.table(header, lines, left=2)}" if lines else ""


def _coarseness(row: Row) -> tuple[bool, float]:
    """Checkpoints first, then artifacts by falling bits per weight."""
    return row.subject.target is not None, -(row.bits_per_weight or 0.0)


def _correct(row: Row) -> Mapping[str, bool]:
    items = row.accuracy.outcome.items if row.accuracy else ()
    return {item.id: item.correct for item in items}


def _left_out(title: str, records: Sequence[Record]) -> list[str]:
    if not records:
        return []
    lines = []
    for record in records:
        case = record.case
        line = [_full_name(case.subject), case.runtime, case.task, record.reason or text.ABSENT]
        if line not in lines:
            lines.append(line)
    return [f"## {title}", text.table(["what", "runtime", "task", "reason"], lines, left=4)]


def _full_name(subject: Subject) -> str:
    return f"{subject.model} {subject_name(subject)}"


def _machines(records: Sequence[Record]) -> list[str]:
    found = machines(records)
    parts = ["## Machine" if len(found) == 1 else "## Machines"] if found else []
    for number, environment in enumerate(found, start=1):
        own = [record for record in records if record.environment == environment]
        lines = _environment(environment) + _busy(own)
        parts += [f"### Machine {number}"] if len(found) > 1 else []
        parts.append(text.table(["", ""], lines, left=2))
    return parts


def _environment(e: Environment) -> list[list[str]]:
    clock = f"{e.max_hz / 1e9:.2f} GHz at most" if e.max_hz else None
    governor = f"governor {e.governor}" if e.governor else None
    packages = ", ".join(f"{name} {version}" for name, version in e.packages.items())
    frequency = ", ".join(part for part in (clock, governor) if part)
    return [
        ["CPU", f"{e.cpu or 'unknown'} ({e.architecture})"],
        ["cores", f"{e.cores or text.ABSENT} physical, {e.usable_cpus or text.ABSENT} usable CPUs"],
        ["instructions", " ".join(e.cpu_flags) or text.ABSENT],
        ["frequency", frequency or "not readable here"],
        ["memory", "not known" if e.memory_bytes is None else f"{e.memory_bytes / 1e9:.1f} GB"],
        ["system", e.system],
        ["Python", e.python],
        ["packages", packages or text.ABSENT],
        ["PocketVLM revision", e.revision or "not a checkout"],
    ]


def _busy(records: Sequence[Record]) -> list[list[str]]:
    ran = [record for record in records if record.wall_s is not None]
    loads = [r.before.load_1m for r in ran if r.before.load_1m is not None]
    stolen = [
        r.after.steal_s - r.before.steal_s
        for r in ran
        if r.after.steal_s is not None and r.before.steal_s is not None
    ]
    wall = sum(record.wall_s or 0 for record in ran)
    lines = []
    if loads:
        span = f"{min(loads):.2f} to {max(loads):.2f}"
        lines.append(["load average (1 min) before a job", span])
    if stolen:
        lines.append(["stolen by the hypervisor", f"{sum(stolen):.2f} CPU s in {wall:.0f} s"])
    return lines
