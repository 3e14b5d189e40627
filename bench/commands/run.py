"""`bench run`: plan, measure job by job, append a record for each."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.environment import Environment, environment, usable_cpus
from bench.plan import Choices, Job, Plan, plan
from bench.processes import run_job, skipped
from bench.record import Case, Options, Record, append
from bench.subjects import source
from bench.summary import subject_name
from bench.tasks import TASKS
from export.errors import UserError
from export.registry import list_models
from runtimes import RUNTIMES

LIBRARIES = ("numpy", "pillow", "tokenizers")


def run(arguments: argparse.Namespace) -> int:
    """Measure what the plan has; 1 when a job failed."""
    console = Console(stderr=True)
    sources = [source(name, arguments.offline) for name in dict.fromkeys(arguments.subjects)]
    planned = plan(sources, choices(arguments))
    _show(console, planned)
    if not planned.jobs:
        raise UserError("nothing to run: every job is skipped for the reasons above")
    output = _output(arguments.output)
    distributions = {name for row in RUNTIMES.values() for name in row.distributions}
    here = environment(distributions.union(LIBRARIES))
    for skip in planned.skips:
        append(output, skipped(skip, here))
    failed = _measure(console, planned, arguments.timeout, here, output)
    done = len(planned.jobs) - failed
    console.print(f"{done} measured, {failed} failed; records in {output}", highlight=False)
    return 1 if failed else 0


def choices(arguments: argparse.Namespace) -> Choices:
    """What the command line asks for."""
    options = Options(
        prompt=arguments.prompt,
        prefill_tokens=arguments.prefill_tokens,
        decode_tokens=arguments.decode_tokens,
        repeats=arguments.repeats,
        limit=arguments.limit,
        seed=arguments.seed,
    )
    visible = [name for name, runtime in RUNTIMES.items() if not runtime.hidden]
    return Choices(
        runtimes={name: RUNTIMES[name] for name in arguments.runtime or visible},
        asked_runtimes=arguments.runtime is not None,
        tasks={name: TASKS[name] for name in arguments.task or TASKS},
        options=options,
        rounds=arguments.rounds,
        threads=arguments.threads or usable_cpus(),
        reference=arguments.reference,
        known_models=tuple(list_models()),
        offline=arguments.offline,
    )


def _measure(
    console: Console, planned: Plan, timeout_s: float, here: Environment, output: Path
) -> int:
    columns = (
        MofNCompleteColumn(),
        BarColumn(24),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    quiet = not console.is_terminal
    # Drawn between jobs only: nothing of this process runs while a job is measured.
    with Progress(*columns, console=console, auto_refresh=False, disable=quiet) as progress:
        bar = progress.add_task("", total=len(planned.jobs))
        failed = 0
        for job in planned.jobs:
            progress.update(bar, description=escape(_title(job.case)), refresh=True)
            record = run_job(job, timeout_s, here)
            append(output, record)
            failed += record.status == "failed"
            _tell(console, job, record)
            progress.update(bar, advance=1, refresh=True)
    return failed


def _show(console: Console, planned: Plan) -> None:
    console.print(f"{len(planned.jobs)} to measure, {len(planned.skips)} skipped", highlight=False)
    for skip in planned.skips:
        console.print(
            f"  skipped: {escape(_title(skip.case))}: {escape(skip.reason)}", highlight=False
        )


def _tell(console: Console, job: Job, record: Record) -> None:
    """A line for each job where there is no bar, and for each failure anywhere."""
    if record.status == "failed":
        console.print(
            f"failed: {escape(_title(job.case))}: {escape(record.reason or '')}", highlight=False
        )
    elif not console.is_terminal:
        console.print(f"done in {record.wall_s:.1f} s: {escape(_title(job.case))}", highlight=False)


def _title(case: Case) -> str:
    name = f"{case.subject.model} {subject_name(case.subject)}"
    repeated = f", round {case.round + 1}" if TASKS[case.task].repeated else ""
    return f"{name} on {case.runtime}: {case.task}{repeated}"


def _output(asked: str | None) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    path = Path(asked) if asked else Path("results/runs") / f"{stamp}.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); choose another by -o"
        ) from error
    return path
