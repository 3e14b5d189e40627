"""The table of tasks: what each one needs and where its code is. Importing it imports none.

NOT aware of runtimes, reports or of how a process is started.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import cast

from bench.machine.memory import Phases
from bench.record import Case, Outcome
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


@dataclass(frozen=True)
class Task:
    """One task: `module` offers `run(context: Context) -> Outcome`."""

    module: str
    summary: str
    repeated: bool = False
    """Measured in several rounds, each in a process of its own."""
    takes_text: bool = False
    """Can be done without images, where the options' prompt is text."""
    needs_training: bool = False
    """Meaningless with random weights."""
    needs_reference: bool = False
    imports: tuple[str, ...] = ()

    def unavailable(self) -> str | None:
        """Why it cannot be run here, or None."""
        missing = [name for name in self.imports if find_spec(name) is None]
        if not missing:
            return None
        return f"needs {', '.join(missing)}; pip install 'pocket-vlm[bench]'"

    def run(self, context: Context) -> Outcome:
        """Do it. Raises UserError for what the user can mend."""
        function = importlib.import_module(self.module).run
        return cast(Outcome, function(context))


TASKS: Mapping[str, Task] = {
    "latency": Task(
        "bench.tasks.latency",
        "time and memory of loading, encoding, prefill and decoding, at exact lengths",
        repeated=True,
        takes_text=True,
    ),
    "easy-vqa": Task(
        "bench.tasks.easy_vqa",
        "accuracy on the test split of easy-VQA (9,673 questions on 1,000 images)",
        needs_training=True,
        imports=("easy_vqa",),
    ),
    "fidelity": Task(
        "bench.tasks.fidelity",
        "divergence of next-token distributions from the reference's",
        needs_training=True,
        needs_reference=True,
        imports=("easy_vqa",),
    ),
}
