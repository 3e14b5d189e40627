"""The table of tasks, what `bench` can measure: latency, accuracy on questions, fidelity.

The module that does a task is imported when the task is used.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from bench.machine.memory import Phases
from bench.options import FidelityOptions, LatencyOptions, Options, QuestionOptions, part
from bench.record import Case, Outcome
from bench.tasks.journal import Journal
from export.artifact import Artifact
from export.model import Model
from runtimes.base import Session


@dataclass(frozen=True)
class Context:
    """What a task's `run` gets, in the process of one job.

    `case` says what to measure, `loaded` is the artifact or checkpoint, and `session` answers
    requests with it. `phases` records peak memory: the task ends each phase (image, prefill, …).
    `open_reference` opens the reference of a fidelity task, and returns its model's name and a
    session. `notify` reports the next step to the user; it is called only outside of timings.
    `journal` has the questions answered so far, also by an earlier run that was interrupted.
    """

    case: Case
    loaded: Artifact | Model
    session: Session
    phases: Phases
    open_reference: Callable[[], tuple[str, Session]]
    notify: Callable[[str], None] = lambda phase: None
    journal: Journal = field(default_factory=Journal)


@dataclass(frozen=True)
class LatencyTask:
    """A task that measures time and memory of one kind of request, with fixed lengths.

    It runs in several rounds, each in a process of its own. Random weights are fine for it, and, if
    the prompt is text, a model without vision. The module named `module` must have
    `run(context: Context, options: LatencyOptions) -> Outcome`; `imports` names needed libraries.
    """

    module: str
    summary: str
    imports: tuple[str, ...] = ()

    def options(self, options: Options) -> LatencyOptions:
        """Returns, of all options, those that latency tasks use."""
        return part(LatencyOptions, options)


@dataclass(frozen=True)
class QuestionTask:
    """A task that asks questions about images and scores each answer.

    The module named `module` must have
    `run(context: Context, options: QuestionOptions) -> Outcome`; `imports` names needed libraries.
    `public`: the questions come from the Hugging Face hub or the folder of --data.
    """

    module: str
    summary: str
    imports: tuple[str, ...] = ()
    public: bool = False
    """If true, the module must also have `check(name, options)`, which opens local data."""

    def options(self, options: Options) -> QuestionOptions:
        """Returns, of all options, those that tasks with questions use."""
        return part(QuestionOptions, options)


@dataclass(frozen=True)
class FidelityTask:
    """A task that compares next-token distributions of an artifact and its reference model.

    The module named `module` must have
    `run(context: Context, options: FidelityOptions) -> Outcome`; `imports` names needed libraries.
    """

    module: str
    summary: str
    imports: tuple[str, ...] = ()

    def options(self, options: Options) -> FidelityOptions:
        """Returns, of all options, those that fidelity tasks use."""
        return part(FidelityOptions, options)


TaskKind = LatencyTask | QuestionTask | FidelityTask


def summary(name: str) -> str:
    """Says in a phrase what the task of this name measures."""
    task = TASKS[name]
    if not isinstance(task, QuestionTask) or not task.public:
        return task.summary
    return str(importlib.import_module(task.module).public_tasks()[name].summary)


def unavailable(task: TaskKind) -> str | None:
    """Says which Python packages a task lacks and how to install them; None if it can run."""
    missing = [name for name in task.imports if find_spec(name) is None]
    return f"needs {', '.join(missing)}; pip install 'pocket-vlm[bench]'" if missing else None


def check(name: str, options: Options) -> None:
    """Opens the local data (--data) of a public data set's task, before anything is measured.

    Does nothing for other tasks. Raises UserError for data that cannot be used.
    """
    task = TASKS[name]
    if isinstance(task, QuestionTask) and task.public:
        importlib.import_module(task.module).check(name, options)


def run(context: Context) -> Outcome:
    """Runs the task of `context.case`. Raises UserError for problems that the user can repair."""
    task, options = TASKS[context.case.task], context.case.options
    function = importlib.import_module(task.module).run
    return cast(Outcome, function(context, task.options(options)))


def is_latency(name: str) -> bool:
    """Whether the task of this name measures latency; False for an unknown name (old records)."""
    return isinstance(TASKS.get(name), LatencyTask)


def with_own_options(case: Case) -> Case:
    """Returns the job with every option that its task does not use reset to the default.

    So two jobs that differ only in unused options are equal.
    """
    task = TASKS.get(case.task)
    if task is None:
        return case
    return replace(case, options=Options(**vars(task.options(case.options))))


GENERATED: Mapping[str, str] = {
    "counting": "how many of up to six shapes (1,500 questions)",
    "grid": "in which of 8 by 8 cells a shape is (500)",
    "boxes": "overlap (IoU) with the box of a named shape",
    "points": "a point within a named shape",
    "digits": "reading one to three large digits (500)",
    "handwritten": "reading scikit-learn's handwritten digits (360)",
    "latin": "reading made-up Latin words of three to five letters (500)",
    "hangul": "reading one or two Hangul syllables (500)",
    "ocr-english": "reading a line of a rendered page of English words (500)",
    "ocr-korean": "reading a line of a rendered page of Korean words (500)",
}
NEEDS = {
    "handwritten": ("sklearn",),
    "hangul": ("koreanize_matplotlib",),
    "ocr-korean": ("koreanize_matplotlib",),
}
# One file each, named like the task; it is read when it is needed.
DATA_SETS = sorted(file.stem for file in (Path(__file__).parent / "data_sets").glob("*.yaml"))

DEFAULT_TASKS = ("latency", "easy-vqa", "fidelity")

TASKS: Mapping[str, TaskKind] = {
    "latency": LatencyTask(
        "bench.tasks.latency",
        "time and memory of loading, encoding, prefill and decoding, at exact lengths",
    ),
    "easy-vqa": QuestionTask(
        "bench.tasks.easy_vqa",
        "accuracy on the test split of easy-VQA (9,673 questions on 1,000 images)",
        imports=("easy_vqa",),
    ),
    "fidelity": FidelityTask(
        "bench.tasks.fidelity",
        "divergence of next-token distributions from the reference, whole and by halves",
        imports=("easy_vqa",),
    ),
    **{
        name: QuestionTask("bench.tasks.generated", description, imports=NEEDS.get(name, ()))
        for name, description in GENERATED.items()
    },
    **{
        name: QuestionTask(
            "bench.tasks.public", f"public data set: {name}", imports=("datasets",), public=True
        )
        for name in DATA_SETS
    },
}
