"""The product of subjects, runtimes and tasks, with the reason for everything left out.

NOT aware of how jobs are run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.record import Case, Options
from bench.subjects import Source
from bench.tasks import Task
from runtimes import Runtime


@dataclass(frozen=True)
class Job:
    """One process's work."""

    case: Case
    location: str
    reference: str | None
    """Location of the checkpoint that fidelity compares with."""
    offline: bool = False


@dataclass(frozen=True)
class Skip:
    """A job that is not run."""

    case: Case
    reason: str


@dataclass(frozen=True)
class Plan:
    """Jobs in the order they run: repeated tasks in interleaved rounds (A B C A B C) first."""

    jobs: tuple[Job, ...]
    skips: tuple[Skip, ...]


@dataclass(frozen=True)
class Choices:
    """What was asked for. `asked_runtimes`: chosen by name, so a mismatch is worth telling."""

    runtimes: Mapping[str, Runtime]
    asked_runtimes: bool
    tasks: Mapping[str, Task]
    options: Options
    rounds: int
    threads: int
    reference: str | None
    """Location of the reference for all subjects; None takes each subject's own model."""
    known_models: Sequence[str]
    device: str = "cpu"
    offline: bool = False


def plan(sources: Sequence[Source], choices: Choices) -> Plan:
    """Every combination is a job (one for each round) or a skip."""
    jobs: list[Job] = []
    skips: list[Skip] = []
    for task_name, task in choices.tasks.items():
        for source, name in _pairs(sources, choices):
            case = Case(
                source.subject, name, choices.device, choices.threads, task_name, choices.options, 0
            )
            reference = _reference(source, choices) if task.needs_reference else None
            reason = (
                _mismatch(source, choices.runtimes[name], choices.device)
                or choices.runtimes[name].unavailable()
                or task.unavailable()
                or _unfit(source, task, reference)
            )
            if reason:
                skips.append(Skip(case, reason))
            else:
                jobs.append(Job(case, source.location, reference, choices.offline))
    return Plan(_interleave(jobs, choices), tuple(skips))


def _pairs(sources: Sequence[Source], choices: Choices) -> list[tuple[Source, str]]:
    return [
        (source, name)
        for source in sources
        for name, runtime in choices.runtimes.items()
        if choices.asked_runtimes or runtime.opens(source.subject.target)
    ]


def _mismatch(source: Source, runtime: Runtime, device: str) -> str | None:
    target = source.subject.target
    if not runtime.opens(target):
        takes = "checkpoints" if runtime.takes == "checkpoint" else ", ".join(runtime.targets)
        return f"it opens {takes}, and this is {target or 'a checkpoint'}"
    if device not in runtime.devices:
        return f"it has no device {device}, only {', '.join(runtime.devices)}"
    return None


def _unfit(source: Source, task: Task, reference: str | None) -> str | None:
    if task.needs_training and source.subject.synthetic:
        return "random weights: answers mean nothing"
    if task.needs_reference and source.subject.target is None:
        return "a checkpoint on the reference runtime is what others are compared with"
    if task.needs_reference and reference is None:
        return f"'{source.subject.model}' is not in models.yaml; name its checkpoint by --reference"
    return None


def _reference(source: Source, choices: Choices) -> str | None:
    if choices.reference is not None:
        return choices.reference
    model = source.subject.model
    return model if model in choices.known_models else None


def _interleave(jobs: Sequence[Job], choices: Choices) -> tuple[Job, ...]:
    repeated = [job for job in jobs if choices.tasks[job.case.task].repeated]
    once = [job for job in jobs if not choices.tasks[job.case.task].repeated]
    rounds = [
        replace(job, case=replace(job.case, round=number))
        for number in range(choices.rounds)
        for job in repeated
    ]
    return (*rounds, *once)
