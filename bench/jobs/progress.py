"""Shows the progress of a run: jobs done, the present phase, and an estimate of the time left.

The terminal is written to only between jobs and when a job starts a phase and waits, never during a
measurement.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from bench.analysis.rows import subject_name
from bench.record import Case, Record
from bench.tasks import is_latency

# Traits by which jobs are expected to take equally long, the most specific first.
ALIKE: tuple[Callable[[Case], object], ...] = (
    lambda case: (_subject(case), case.runtime, case.profile, case.task),
    lambda case: (case.runtime, case.task),
    lambda case: case.task,
)
Ended = Sequence[tuple[Case, float]]


class Showing:
    """Prints the progress of a run: a bar on a terminal, elsewhere a line for each finished job."""

    def __init__(
        self, console: Console, bar: Progress, task: TaskID, planned: Sequence[Case]
    ) -> None:
        self._console = console
        self._bar, self._task = bar, task
        self._planned = planned
        self._ended: list[tuple[Case, float]] = []

    def phase(self, case: Case, phase: str) -> None:
        """Show that the job of `case` starts a phase, such as "loading"."""
        text = f"{title(case)}, {phase}{self._left()}"
        self._bar.update(self._task, description=escape(text), refresh=True)

    def end(self, record: Record) -> None:
        """Count a job as done, and print if it failed or did not fit its device profile.

        Without a terminal, print a line about every job.
        """
        self._ended.append((record.case, record.wall_s or 0.0))
        self._bar.update(self._task, advance=1, refresh=True)
        name = escape(title(record.case))
        if record.status == "failed":
            self._print(f"failed: {name}: {escape(record.reason or '')}")
        elif not self._console.is_terminal:
            done = f"{len(self._ended)}/{len(self._planned)} done in {record.wall_s:.1f} s"
            self._print(f"{done}: {name}{self._left()}")
        if record.outcome.fits is False and record.status == "ok":
            self._print(f"does not fit {record.case.profile}: {name}")

    def _left(self) -> str:
        rest = self._planned[len(self._ended) :]
        if not self._ended or not rest:
            return ""
        seconds, unknown = left(self._ended, rest)
        known = [f"about {_duration(seconds)} left"] if seconds else []
        return ", ".join(["", *known, *_unknown(unknown)])

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


@contextmanager
def showing(console: Console, planned: Sequence[Case]) -> Iterator[Showing]:
    """Show the progress of a run while the `with` block runs its jobs in the planned order."""
    columns = (MofNCompleteColumn(), BarColumn(24), TextColumn("{task.description}"))
    quiet = not console.is_terminal
    with Progress(*columns, console=console, auto_refresh=False, disable=quiet) as bar:
        yield Showing(console, bar, bar.add_task("", total=len(planned)), planned)


def left(ended: Ended, rest: Sequence[Case]) -> tuple[float, list[str]]:
    """Estimate the seconds that the jobs in `rest` will take, from the jobs that have `ended`.

    Also returns the names of tasks that no ended job had; their jobs are not in the estimate.
    """
    expected = [(case, _expected_s(ended, case)) for case in rest]
    unknown = list(dict.fromkeys(case.task for case, seconds in expected if seconds is None))
    return sum(seconds or 0.0 for _, seconds in expected), unknown


def _unknown(tasks: Sequence[str]) -> list[str]:
    """Return a phrase that names the tasks whose time cannot be estimated; [] if there are none."""
    if not tasks:
        return []
    first, *others = tasks
    more = f" and {others[0]}" if len(others) == 1 else f" and {len(others)} more tasks"
    return [f"then {first}{more if others else ''}"]


def _expected_s(ended: Ended, case: Case) -> float | None:
    """Median seconds of the ended jobs that are most like this one; None: none had its task."""
    for trait in ALIKE:
        walls_s = [wall_s for other, wall_s in ended if trait(other) == trait(case)]
        if walls_s:
            return median(walls_s)
    return None


def _subject(case: Case) -> object:
    """Return a key that is equal for cases of the same artifact or checkpoint."""
    return case.subject.model, case.subject.sha256, subject_name(case.subject)


def title(case: Case) -> str:
    """Name a job in a few words: model, export, runtime, device profile, task and round."""
    name = f"{case.subject.model} {subject_name(case.subject)}"
    where = f"{case.runtime} ({case.profile})" if case.profile else case.runtime
    repeated = f", round {case.round + 1}" if is_latency(case.task) else ""
    return f"{name} on {where}: {case.task}{repeated}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
