"""The table of tasks: what each one needs and where its code is. Importing it imports none.

NOT aware of runtimes, reports or of how a process is started.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from bench.machine.memory import Phases
from bench.record import Case, Options, Outcome
from bench.tasks.journal import Journal
from export.artifact import Artifact
from export.model import Model
from runtimes.base import Session


@dataclass(frozen=True)
class Context:
    """What a task works with, inside the job's process."""

    case: Case
    loaded: Artifact | Model
    session: Session
    phases: Phases
    open_reference: Callable[[], tuple[str, Session]]
    """Opens the reference (its model's name, a session) for tasks that need one."""
    tell: Callable[[str], None] = lambda phase: None
    """Says what comes next; outside of anything that is timed."""
    journal: Journal = field(default_factory=Journal)
    """What was answered so far, of tasks that ask items."""


@dataclass(frozen=True)
class Task:
    """One task: `module` offers `run(context: Context) -> Outcome`."""

    module: str
    summary: str
    repeated: bool = False
    """Measured in several rounds, each in a process of its own."""
    takes_text: bool = False
    """Can be done without images, where the options' prompt is text."""
    needs_training: bool = True
    """Meaningless with random weights."""
    needs_reference: bool = False
    imports: tuple[str, ...] = ()
    asks: bool = True
    """It has items, with a score each."""
    by_name: bool = True
    """Done only where it is asked for."""
    public: bool = False
    """Its data comes from the hub or from --data; its module offers `check`."""

    def concerning(self, options: Options) -> Options:
        """The options that this task reads, with the others as they are by default."""
        read = LATENCY if self.repeated else ASKED if self.asks else FIDELITY
        return Options(**{name: getattr(options, name) for name in read})

    def told(self, name: str) -> str:
        """What it measures; of a public data set as its file says."""
        if not self.public:
            return self.summary
        return str(importlib.import_module(self.module).public_tasks()[name].summary)

    def unavailable(self) -> str | None:
        """Why it cannot be run here, or None."""
        missing = [name for name in self.imports if find_spec(name) is None]
        if not missing:
            return None
        return f"needs {', '.join(missing)}; pip install 'pocket-vlm[bench]'"

    def check(self, name: str, options: Options) -> None:
        """Look at its data before anything is loaded. Raises UserError for data that is bad."""
        if self.public:
            importlib.import_module(self.module).check(name, options)

    def run(self, context: Context) -> Outcome:
        """Do it. Raises UserError for what the user can mend."""
        function = importlib.import_module(self.module).run
        return cast(Outcome, function(context))


# What each kind of task reads of its options.
LATENCY = ("prompt", "prefill_tokens", "decode_tokens", "repeats", "max_tiles")
ASKED = ("max_tiles", "limit", "seed", "shard", "data", "reuse", "batch")
FIDELITY = ("max_tiles", "limit", "seed", "data", "prompts")


def concerning(case: Case) -> Case:
    """The case with the options that its task reads: others do not tell two jobs apart."""
    task = TASKS.get(case.task)
    return replace(case, options=task.concerning(case.options)) if task else case


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
# One file each, whose name is the task's; what is in it is read when it is needed.
DATA_SETS = sorted(file.stem for file in (Path(__file__).parent / "data_sets").glob("*.yaml"))

TASKS: Mapping[str, Task] = {
    "latency": Task(
        "bench.tasks.latency",
        "time and memory of loading, encoding, prefill and decoding, at exact lengths",
        repeated=True,
        takes_text=True,
        needs_training=False,
        asks=False,
        by_name=False,
    ),
    "easy-vqa": Task(
        "bench.tasks.easy_vqa",
        "accuracy on the test split of easy-VQA (9,673 questions on 1,000 images)",
        imports=("easy_vqa",),
        by_name=False,
    ),
    "fidelity": Task(
        "bench.tasks.fidelity",
        "divergence of next-token distributions from the reference's, whole and by halves",
        needs_reference=True,
        imports=("easy_vqa",),
        asks=False,
        by_name=False,
    ),
    **{
        name: Task("bench.tasks.generated", summary, imports=NEEDS.get(name, ()))
        for name, summary in GENERATED.items()
    },
    **{
        name: Task(
            "bench.tasks.public", f"public data set: {name}", imports=("datasets",), public=True
        )
        for name in DATA_SETS
    },
}
