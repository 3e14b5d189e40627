"""The plan that a phone's browser gets, and the records that are made of what it reports.

A report is checked against the plan before it becomes a record: it is what a stranger sends.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from bench.machine.environment import Environment, Load
from bench.measure import Timing, measure
from bench.options import LatencyOptions, Options
from bench.record import SCHEMA, Case, Outcome, Record
from bench.subjects import subject_of, vlm
from bench.tasks.latency import QUESTION, ids
from export.artifact import Artifact
from export.decode import Mismatch, decode
from export.files import parse_json, short
from runtimes.base import Browser, Event

LONGEST_S = 1e5
"""Of a step; anything longer is nonsense."""
WORDS = 300
NOTHING = Load(None, None)


@dataclass(frozen=True)
class Step:
    """A step of an answer as the page reports it; see runtimes.base.Event."""

    kind: Literal["prepare", "image", "prefill", "token"]
    seconds: float
    positions: int = 0
    tiles: int = 0
    token: int | None = None


@dataclass(frozen=True)
class Report:
    """What a phone reports of one artifact: how it ran, or in `error` why it did not."""

    browser: Browser
    load_s: float | None = None
    answers: tuple[tuple[Step, ...], ...] = ()
    """The first one warms up, the others are timed."""
    error: str | None = None


def planned(
    number: int, artifact: Artifact, options: LatencyOptions, done: bool
) -> Mapping[str, Any]:
    """Returns what the page needs to measure an artifact, as JSON; `number` is its name."""
    manifest = artifact.manifest
    return {
        "name": str(number),
        "title": f"{manifest.model} {manifest.recipe}",
        "files": {name: facts.bytes for name, facts in manifest.files.items()},
        "question": QUESTION,
        "answer": ids(vlm(artifact), options.decode_tokens),
        "repeats": options.repeats,
        "done": done,
    }


def read_report(body: bytes, options: LatencyOptions) -> Report:
    """Parses and checks what a phone sent. Raises ValueError or UserError if it is not a report."""
    report = decode(Report, parse_json(body, "the report"))
    steps = [step for answer in report.answers for step in answer]
    numbers = [report.load_s or 0.0, *(step.seconds for step in steps)]
    if not all(math.isfinite(number) and 0 <= number <= LONGEST_S for number in numbers):
        raise Mismatch(f"seconds have to be from 0 to {LONGEST_S:g}")
    if report.error is not None:
        return report
    if report.load_s is None or len(report.answers) != 1 + options.repeats:
        raise Mismatch(f"it has {len(report.answers)} answers, expected {1 + options.repeats}")
    for answer in report.answers:
        kinds = [step.kind for step in answer]
        if kinds != ["prepare", "image", "prefill", *["token"] * options.decode_tokens]:
            raise Mismatch("an answer has other steps than were asked for")
    return report


def record_of(
    artifact: Artifact, report: Report, options: Options, started_at: datetime, here: Environment
) -> Record:
    """Makes the record of what a phone reported. `here`: this machine, for the revision."""
    browser = replace(report.browser, user_agent=short(report.browser.user_agent, WORDS))
    case = Case(subject_of(artifact), "browser", "cpu", browser.threads, "latency", options, 0)
    timings = tuple(_timing(answer) for answer in report.answers)
    outcome = Outcome(
        load_s=report.load_s, warmups=timings[:1], timings=timings[1:], browser=browser
    )
    failed = report.error is not None
    return Record(
        schema=SCHEMA,
        case=case,
        status="failed" if failed else "ok",
        reason=short(" ".join(report.error.split()), WORDS) if report.error is not None else None,
        started_at=started_at.isoformat(timespec="seconds"),
        wall_s=(datetime.now(UTC) - started_at).total_seconds(),
        before=NOTHING,
        after=NOTHING,
        environment=_environment(browser, here),
        outcome=Outcome(browser=browser) if failed else outcome,
    )


def _timing(steps: Iterable[Step]) -> Timing:
    return measure(
        Event(step.kind, step.positions, token=step.token, tiles=step.tiles, seconds=step.seconds)
        for step in steps
    )


def _environment(browser: Browser, here: Environment) -> Environment:
    """Describes the phone as far as its browser does; what a page cannot know is None."""
    memory = None if browser.memory_gib is None else int(browser.memory_gib * 2**30)
    return Environment(
        cpu=None,
        cpu_flags=(),
        cores=None,
        usable_cpus=browser.cores,
        governor=None,
        max_hz=None,
        memory_bytes=memory,
        system=short(browser.platform or "unknown", WORDS),
        architecture="unknown",
        python="none",
        packages={short(name, 60): short(text, 60) for name, text in browser.packages.items()},
        revision=here.revision,
    )
