"""How far a run is: jobs done, the job's phase, and about how long the rest takes.

Drawn when a job says something and waits, and between jobs; never while one is measured. NOT aware
of how jobs are run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from bench.record import Case, Record
from bench.summary import subject_name
from bench.tasks import TASKS


class Showing:
    """A bar on a terminal; elsewhere a line for each job."""

    def __init__(self, console: Console, bar: Progress, task: TaskID, total: int) -> None:
        self._console = console
        self._bar, self._task = bar, task
        self._total = total
        self._walls_s: list[float] = []

    def phase(self, case: Case, phase: str) -> None:
        """What is done now."""
        text = f"{title(case)}, {phase}{self._left()}"
        self._bar.update(self._task, description=escape(text), refresh=True)

    def end(self, record: Record) -> None:
        """A job has ended."""
        self._walls_s.append(record.wall_s or 0.0)
        self._bar.update(self._task, advance=1, refresh=True)
        name = escape(title(record.case))
        if record.status == "failed":
            self._print(f"failed: {name}: {escape(record.reason or '')}")
        elif not self._console.is_terminal:
            done = f"{len(self._walls_s)}/{self._total} done in {record.wall_s:.1f} s"
            self._print(f"{done}: {name}{self._left()}")
        if record.outcome.fits is False and record.status == "ok":
            self._print(f"does not fit {record.case.profile}: {name}")

    def _left(self) -> str:
        left = self._total - len(self._walls_s)
        if not self._walls_s or not left:
            return ""
        return f", about {_duration(median(self._walls_s) * left)} left"

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


@contextmanager
def showing(console: Console, total: int) -> Iterator[Showing]:
    """Progress over so many jobs."""
    columns = (MofNCompleteColumn(), BarColumn(24), TextColumn("{task.description}"))
    quiet = not console.is_terminal
    with Progress(*columns, console=console, auto_refresh=False, disable=quiet) as bar:
        yield Showing(console, bar, bar.add_task("", total=total), total)


def title(case: Case) -> str:
    """A job in a few words."""
    name = f"{case.subject.model} {subject_name(case.subject)}"
    place = f"{case.runtime} ({case.profile})" if case.profile else case.runtime
    repeated = f", round {case.round + 1}" if TASKS[case.task].repeated else ""
    return f"{name} on {place}: {case.task}{repeated}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
