"""Plans a run: combines subjects, runtimes, devices and tasks into jobs, or skips with a reason."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import assert_never

from bench.machine.profiles import PROFILES, Profile, row_of
from bench.options import Options
from bench.record import Case, Subject
from bench.references import Reference, References
from bench.subjects import Candidate
from bench.tasks import (
    FidelityTask,
    LatencyTask,
    QuestionTask,
    TaskKind,
    is_latency,
    unavailable,
)
from export.checkpoint.registry import WeightsKind
from export.origin import identity
from runtimes import RUNTIMES, Runtime


@dataclass(frozen=True)
class Job:
    """One measurement of `bench run`, which gets a process of its own.

    `case` says what is measured; `location` is the artifact's or checkpoint's folder, or the
    model's name. `offline` and `weights` say how the model is opened.
    """

    case: Case
    location: str
    reference: Reference | None
    """Fidelity task: the checkpoint to compare with; None for other tasks."""
    offline: bool = False
    weights: WeightsKind | None = None
    journal: str | None = None
    """Tasks with questions: file that each answer is appended to, so that a run can be resumed."""
    fixed_threads: bool = False
    """Whether the user chose the case's number of threads; otherwise the session may use fewer."""


@dataclass(frozen=True)
class Skip:
    """A combination that is not measured, and the reason why, as `bench run` prints it."""

    case: Case
    reason: str


@dataclass(frozen=True)
class Plan:
    """All jobs of a run in the order in which they are run, and those that are skipped.

    Latency jobs come first, in interleaved rounds (A B C A B C).
    """

    jobs: tuple[Job, ...]
    skips: tuple[Skip, ...]


@dataclass(frozen=True)
class Choices:
    """What the user chose for a run, apart from the artifacts and models.

    `runtimes` and `tasks` are rows of RUNTIMES and TASKS by name. `asked_runtimes`: the user named
    the runtimes, so an artifact that one cannot open becomes a skip; otherwise it is left out.
    `rounds` counts processes per latency job. `references` finds the checkpoint that the fidelity
    task compares an artifact with.
    """

    runtimes: Mapping[str, Runtime]
    asked_runtimes: bool
    tasks: Mapping[str, TaskKind]
    options: Options
    rounds: int
    threads: int
    references: References
    fixed_threads: bool = False
    """Job.fixed_threads of every job."""
    contended: bool = False
    """Whether to measure latency a second time beside a busy process (Options.contended)."""
    profiles: Mapping[str | None, Profile | None] = field(default_factory=lambda: {None: None})
    """Device profiles to limit jobs to, by name; None: this machine without limits."""
    device: str = "cpu"
    offline: bool = False


def plan(candidates: Sequence[Candidate], choices: Choices) -> Plan:
    """Combine each candidate with each runtime, device and task into a job or a skip.

    A latency job is repeated for each round. Raises UserError for a --reference that cannot be
    opened.
    """
    jobs: list[Job] = []
    skips: list[Skip] = []
    for case, candidate in _cases(candidates, choices):
        found = _impossible(case, candidate, choices) or _reference(case, candidate, choices)
        if isinstance(found, str):
            skips.append(Skip(case, found))
            continue
        known = replace(case, reference=identity(found.origin) if found else None)
        jobs.append(
            Job(
                known,
                candidate.location,
                found,
                choices.offline,
                candidate.weights,
                fixed_threads=choices.fixed_threads,
            )
        )
    return Plan(_interleave(jobs, choices), tuple(skips))


def _impossible(case: Case, candidate: Candidate, choices: Choices) -> str | None:
    """Why a case cannot be measured; None: it can, if its task finds a reference or needs none."""
    task, runtime = choices.tasks[case.task], choices.runtimes[case.runtime]
    return (
        candidate.problem
        or _mismatch(case, runtime)
        or _outside(case, task, runtime)
        or runtime.unavailable(case.subject.layout, case.device)
        or unavailable(task)
        or _unfit(case, candidate, task, runtime)
    )


def _reference(case: Case, candidate: Candidate, choices: Choices) -> Reference | str | None:
    """Return a fidelity job's reference, or why there is none; None for other tasks."""
    compares = isinstance(choices.tasks[case.task], FidelityTask)
    return choices.references.of(candidate) if compares else None


def _cases(candidates: Sequence[Candidate], choices: Choices) -> Iterator[tuple[Case, Candidate]]:
    """Yield each combination of candidate, runtime, device and task, with its candidate.

    If the user did not name the runtimes, those that cannot open the candidate are left out. An
    artifact that is named twice, by its folder and by its model, counts once.
    """
    subjects = [candidate.subject for candidate in candidates]
    once = [
        candidate for n, candidate in enumerate(candidates) if candidate.subject not in subjects[:n]
    ]
    for task, (name, profile), candidate in product(choices.tasks, choices.profiles.items(), once):
        for runtime, row in choices.runtimes.items():
            if choices.asked_runtimes or _able(row, candidate.subject):
                threads = min(choices.threads, profile.threads) if profile else choices.threads
                device = profile.device if profile else choices.device
                options = choices.options
                held = name and row_of(name)
                case = Case(candidate.subject, runtime, device, threads, task, options, 0, held)
                yield case, candidate


def _able(runtime: Runtime, subject: Subject) -> bool:
    return runtime.opens(subject.target) and runtime.runs_layout(subject.layout)


def _mismatch(case: Case, runtime: Runtime) -> str | None:
    target = case.subject.target
    if not runtime.opens(target):
        takes = "checkpoints" if runtime.takes == "checkpoint" else ", ".join(runtime.targets)
        return f"it opens {takes}, and this is {target or 'a checkpoint'}"
    if not runtime.runs_on(case.device):
        return f"it has no device {case.device}, only {', '.join(runtime.devices)}"
    return None


def _outside(case: Case, task: TaskKind, runtime: Runtime) -> str | None:
    """Why a case cannot be measured within its device profile; None: it can, or has no profile.

    Hidden runtimes are always allowed, because profiles do not list them.
    """
    if case.profile is None:
        return None
    profile = PROFILES[case.profile]
    if not runtime.hidden and case.runtime not in profile.runtimes:
        return f"{case.profile} has no {case.runtime}, only {', '.join(profile.runtimes)}"
    if isinstance(task, FidelityTask):
        return "it also needs the reference in memory, and no profile has enough for both"
    return None


def _unfit(case: Case, candidate: Candidate, task: TaskKind, runtime: Runtime) -> str | None:
    """Why this kind of task cannot be done with this model, runtime or options; None: it can."""
    match task:
        case LatencyTask():
            blind = not candidate.has_vision and case.options.prompt != "text"
            return "its model takes no images, choose --prompt text" if blind else None
        case QuestionTask():
            return _unanswerable(candidate) or _without_batches(case, runtime)
        case FidelityTask():
            return _incomparable(case, candidate)
        case _:
            assert_never(task)


def _unanswerable(candidate: Candidate) -> str | None:
    if candidate.subject.synthetic:
        return "random weights: answers are meaningless"
    return None if candidate.has_vision else "its model takes no images"


def _without_batches(case: Case, runtime: Runtime) -> str | None:
    if case.options.batch == 1 or runtime.batches:
        return None
    able = ", ".join(name for name, row in RUNTIMES.items() if row.batches and not row.hidden)
    return f"it answers one question at a time; --batch is for {able}"


def _incomparable(case: Case, candidate: Candidate) -> str | None:
    if candidate.subject.synthetic:
        return "random weights: answers are meaningless"
    if candidate.subject.target is None:
        return "a checkpoint on the reference runtime is what artifacts are compared with"
    if case.options.shard is not None:
        return "its figures cannot be merged from shards; omit --shard"
    return _unanswerable(candidate)


def _interleave(jobs: Sequence[Job], choices: Choices) -> tuple[Job, ...]:
    conditions = (False, True) if choices.contended else (False,)
    timed = [
        replace(job, case=replace(job.case, options=replace(choices.options, contended=contended)))
        for job in jobs
        if is_latency(job.case.task)
        for contended in conditions
    ]
    others = [job for job in jobs if not is_latency(job.case.task)]
    repeated = [
        replace(job, case=replace(job.case, round=number))
        for number in range(choices.rounds)
        for job in timed
    ]
    return (*repeated, *others)
