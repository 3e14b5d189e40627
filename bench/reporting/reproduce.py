"""Writes the shell commands that measure a report's records again.

They use the folders where `python -m export` puts artifacts by default, and name a checkpoint by
its model.
"""

import shlex
from collections.abc import Sequence
from dataclasses import replace

from bench.options import Options
from bench.record import Record, Subject
from bench.tasks import TASKS
from export.targets import TARGETS
from runtimes import RUNTIMES


def commands(records: Sequence[Record]) -> str:
    """Returns shell commands, one per line: the exports, the benchmark runs, then the report."""
    subjects = _subjects(records)
    lines = [_export(subject) for subject in subjects if subject.target]
    groups: dict[tuple[Options, str | None], list[Record]] = {}
    every = {(record.case.options, record.case.profile) for record in records}
    for record in records:
        options, profile = record.case.options, record.case.profile
        both = replace(options, contended=True)  # a run with --contended measures both
        key = (both if (both, profile) in every else options, profile)
        groups.setdefault(key, []).append(record)
    lines += [_run(alike, options, profile) for (options, profile), alike in groups.items()]
    lines.append("bench report run.jsonl -o REPORT.md")
    return "\n".join(dict.fromkeys(lines))


def sums(records: Sequence[Record]) -> list[str]:
    """Returns a line for each artifact: its default folder and the sha256 of its artifact.json."""
    known = [subject for subject in _subjects(records) if subject.sha256]
    return [f"`{location(s)}/artifact.json` sha256 `{s.sha256}`" for s in known]


def location(subject: Subject) -> str:
    """Returns the folder an artifact is exported to by default; for a checkpoint, its model."""
    if subject.target is None:
        return subject.model
    layout = "" if subject.layout in (None, "native") else f"-{subject.layout}"
    return f"build/{subject.model}/{subject.target}-{subject.recipe}{layout}"


def _subjects(records: Sequence[Record]) -> list[Subject]:
    return list({location(r.case.subject): r.case.subject for r in records}.values())


def _export(subject: Subject) -> str:
    words = ["python -m export", shlex.quote(subject.model), "--target", str(subject.target)]
    if subject.target not in TARGETS:  # a peer built it
        words = ["bench peers", subject.model]
    words += subject.used.options() if subject.used else []
    words += ["--weights", "synthetic"] if subject.synthetic else []
    words += ["--layout", subject.layout] if subject.layout not in (None, "native") else []
    return " ".join(words)


def _run(records: Sequence[Record], options: Options, profile: str | None) -> str:
    """Writes the `bench run` command that measures these records, all of the given options, again.

    `profile` is the device profile they were limited to: it sets the number of threads.
    """
    cases = [record.case for record in records]
    locations = dict.fromkeys(location(case.subject) for case in cases)
    words = ["bench run", *map(shlex.quote, locations)]
    for flag, values, table in (
        ("--runtime", {case.runtime for case in cases}, RUNTIMES),
        ("--task", {case.task for case in cases}, TASKS),
    ):
        words += [f"{flag} {name}" for name in table if name in values]
    random = any(case.subject.target is None and case.subject.synthetic for case in cases)
    words += ["--weights synthetic"] if random else []
    words += _threads(records) if profile is None else ["--device", profile]
    words += ["--rounds", str(1 + max(case.round for case in cases))]
    return " ".join([*words, *flags(options), "-o run.jsonl"])


def _threads(records: Sequence[Record]) -> list[str]:
    """Returns the flag for the number of threads, unless each session chose its own."""
    chosen = [
        r.outcome.threads is not None and r.outcome.threads.reason != "asked" for r in records
    ]
    most = max(record.case.threads for record in records)
    return [] if all(chosen) else ["--threads", str(most)]


def flags(options: Options) -> list[str]:
    """Returns the command-line flags of `bench run` for those options that are not the defaults."""
    default = Options()
    changed = [(n, v) for n, v in vars(options).items() if v != getattr(default, n)]
    return [_flag(name.replace("_", "-"), value) for name, value in changed]


def _flag(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {'DIR' if name == 'data' else value}"
