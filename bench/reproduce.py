"""The commands that would measure a report's records again. Pure; NOT aware of real paths.

Artifacts are named by where `python -m export` puts them, checkpoints by their model's name.
"""

from collections.abc import Sequence

from bench.record import Options, Record, Subject
from bench.tasks import TASKS
from runtimes import RUNTIMES


def commands(records: Sequence[Record]) -> str:
    """A code block, and the sha256 of each artifact.json to compare with."""
    subjects = list({place(r.case.subject): r.case.subject for r in records}.values())
    lines = [_export(subject) for subject in subjects if subject.target]
    for options in dict.fromkeys(record.case.options for record in records):
        lines.append(_run([r for r in records if r.case.options == options], options))
    lines.append("bench report run.jsonl -o REPORT.md")
    known = [f"- `{place(s)}/artifact.json` sha256 `{s.sha256}`" for s in subjects if s.sha256]
    block = "\n".join(["```sh", *dict.fromkeys(lines), "```"])
    return "\n\n".join(part for part in (block, "\n".join(known)) if part)


def place(subject: Subject) -> str:
    """The default folder of an artifact, the name of a checkpoint."""
    if subject.target is None:
        return subject.model
    layout = "" if subject.layout in (None, "native") else f"-{subject.layout}"
    return f"build/{subject.model}/{subject.target}-{subject.recipe}{layout}"


def _export(subject: Subject) -> str:
    words = ["python -m export", subject.model, "--target", str(subject.target)]
    words += ["--recipe", str(subject.recipe)]
    words += ["--weights", "synthetic"] if subject.synthetic else []
    words += ["--layout", subject.layout] if subject.layout not in (None, "native") else []
    return " ".join(words)


def _run(records: Sequence[Record], options: Options) -> str:
    cases = [record.case for record in records]
    places = dict.fromkeys(place(case.subject) for case in cases)
    words = ["bench run", *places]
    for flag, values, table in (
        ("--runtime", {case.runtime for case in cases}, RUNTIMES),
        ("--task", {case.task for case in cases}, TASKS),
    ):
        words += [f"{flag} {name}" for name in table if name in values]
    words += ["--threads", str(max(case.threads for case in cases))]
    words += ["--rounds", str(1 + max(case.round for case in cases))]
    return " ".join([*words, *flags(options), "-o run.jsonl"])


def flags(options: Options) -> list[str]:
    """Options that are not the defaults, as `bench run` takes them."""
    default = Options()
    return [
        f"--{name.replace('_', '-')} {value}"
        for name, value in vars(options).items()
        if value != getattr(default, name)
    ]
