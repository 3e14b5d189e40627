"""The table of tasks: their kinds, what they need, and the modules that do them.

A task's module is imported when it is used.
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
    """What a task gets in the job's process."""

    case: Case
    loaded: Artifact | Model
    session: Session
    phases: Phases
    open_reference: Callable[[], tuple[str, Session]]
    """Opens the reference of a fidelity task; returns its model's name and a session."""
    notify: Callable[[str], None] = lambda phase: None
    """Reports the next phase; called only outside of measurements."""
    journal: Journal = field(default_factory=Journal)
    """Items answered so far, of tasks with questions."""


@dataclass(frozen=True)
class LatencyTask:
    """Time and memory of one request of fixed lengths.

    Measured in several rounds, each in a process of its own. Random weights are fine for it, and a
    model without vision where the prompt is text. `module` offers
    `run(context: Context, options: LatencyOptions) -> Outcome`.
    """

    module: str
    summary: str
    imports: tuple[str, ...] = ()

    def options(self, options: Options) -> LatencyOptions:
        """The options that it reads."""
        return part(LatencyOptions, options)


@dataclass(frozen=True)
class QuestionTask:
    """Questions about images, with a score for each answer.

    `module` offers `run(context: Context, options: QuestionOptions) -> Outcome`.
    """

    module: str
    summary: str
    imports: tuple[str, ...] = ()
    public: bool = False
    """Its questions come from the hub or from --data; its module also offers `check`."""

    def options(self, options: Options) -> QuestionOptions:
        """The options that it reads."""
        return part(QuestionOptions, options)


@dataclass(frozen=True)
class FidelityTask:
    """Difference of next-token distributions between an artifact and its reference model.

    `module` offers `run(context: Context, options: FidelityOptions) -> Outcome`.
    """

    module: str
    summary: str
    imports: tuple[str, ...] = ()

    def options(self, options: Options) -> FidelityOptions:
        """The options that it reads."""
        return part(FidelityOptions, options)


TaskKind = LatencyTask | QuestionTask | FidelityTask


def summary(name: str) -> str:
    """What a task measures; a public data set's summary is in its file."""
    task = TASKS[name]
    if not isinstance(task, QuestionTask) or not task.public:
        return task.summary
    return str(importlib.import_module(task.module).public_tasks()[name].summary)


def unavailable(task: TaskKind) -> str | None:
    """Why a task cannot be run here, or None."""
    missing = [name for name in task.imports if find_spec(name) is None]
    return f"needs {', '.join(missing)}; pip install 'pocket-vlm[bench]'" if missing else None


def check(name: str, options: Options) -> None:
    """Open a task's local data before anything is measured. Raises UserError for bad data."""
    task = TASKS[name]
    if isinstance(task, QuestionTask) and task.public:
        importlib.import_module(task.module).check(name, options)


def run(context: Context) -> Outcome:
    """Do the context's task. Raises UserError for what the user can repair."""
    task, options = TASKS[context.case.task], context.case.options
    function = importlib.import_module(task.module).run
    return cast(Outcome, function(context, task.options(options)))


def is_latency(name: str) -> bool:
    """Whether it is a latency task, by its name; False for an unknown one (of an old record)."""
    return isinstance(TASKS.get(name), LatencyTask)


def with_own_options(case: Case) -> Case:
    """The case with every option that its task does not read at its default.

    Such options do not make two jobs different.
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
