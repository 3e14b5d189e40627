"""`bench run`: plans jobs, measures them one by one, and appends a record for each."""

import argparse
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench.jobs.child import StopConditions, run_child
from bench.jobs.exports import ExportRequest, candidates
from bench.jobs.launch import command
from bench.jobs.limits import Limits, choose_cpus
from bench.jobs.plan import Choices, Job, Plan, plan
from bench.jobs.processes import run_job, skipped, variables
from bench.jobs.progress import showing, title
from bench.jobs.resume import key, remaining
from bench.machine.ceilings import Ceilings
from bench.machine.environment import Environment, environment
from bench.machine.gpu_ceilings import GpuCeilings
from bench.machine.profiles import profile_of
from bench.machine.threads import chosen_threads
from bench.options import Options
from bench.record import append, read
from bench.references import References
from bench.tasks import DEFAULT_TASKS, TASKS, QuestionTask, check, is_latency
from export.console import rich_console
from export.decode import decode
from export.errors import UserError
from export.targets import TARGETS
from runtimes import RUNTIMES
from runtimes.devices import device_of

LIBRARIES = ("numpy", "pillow", "tokenizers")
DEFAULT_RECIPES = ("int4",)
CEILINGS_TIMEOUT_S = 60.0


def run(arguments: argparse.Namespace) -> int:
    """Plan the jobs, measure them, and append a record of each to the output file.

    Returns 0, 1 if a job or an export failed, or 130 if the run was interrupted by Ctrl-C.
    """
    console = rich_console(stderr=True)
    _expect_sense(arguments)
    names = list(dict.fromkeys(arguments.subjects))
    subjects = candidates(names, export_request(arguments), lambda text: _print(console, text))
    chosen = choices(arguments)
    planned = plan(subjects, chosen)
    _show(console, planned)
    if not planned.jobs:
        raise UserError("there is nothing to run: every job is skipped for the reasons above")
    for name in {job.case.task: None for job in planned.jobs}:
        check(name, chosen.options)
    output = output_file(arguments.output)
    if arguments.resume:
        planned = _rest(console, planned, output)
    try:
        unmade = any(source.problem for source in subjects)
        failed = measure(
            console,
            planned,
            output,
            ceilings=arguments.ceilings,
            resumed=arguments.resume,
            timeout_s=arguments.timeout,
        )
        return failed or int(unmade)
    except KeyboardInterrupt:
        again = f"continue with --resume -o {output}"
        _print(console, f"interrupted; records so far are in {output}; {again}")
        return 130


def choices(arguments: argparse.Namespace) -> Choices:
    """Turn the arguments into the runtimes, tasks, devices and options that `plan` combines."""
    options = Options(
        prompt=arguments.prompt,
        prefill_tokens=arguments.prefill_tokens,
        decode_tokens=arguments.decode_tokens,
        repeats=arguments.repeats,
        max_tiles=arguments.max_tiles,
        limit=arguments.limit,
        seed=arguments.seed,
        shard=arguments.shard,
        data=arguments.data,
        prompts=arguments.prompts,
        reuse=arguments.reuse,
        batch=arguments.batch,
    )
    default = [name for name, runtime in RUNTIMES.items() if runtime.default]
    return Choices(
        runtimes={name: RUNTIMES[name] for name in arguments.runtime or default},
        asked_runtimes=arguments.runtime is not None,
        tasks={name: TASKS[name] for name in arguments.task or DEFAULT_TASKS},
        options=options,
        rounds=arguments.rounds,
        threads=chosen_threads(arguments.threads),
        fixed_threads=arguments.threads is not None,
        contended=arguments.contended,
        references=References(arguments.reference, arguments.offline),
        profiles={name: name and profile_of(name) for name in arguments.device or [None]},
        offline=arguments.offline,
    )


def export_request(arguments: argparse.Namespace) -> ExportRequest:
    """Decide which exports of each named model to measure, and whether also its checkpoint.

    Without --target, --recipe and --runtime only the checkpoint is measured. With one of them,
    exports are measured instead: to each --target (default: all that a chosen runtime opens, or all
    that can be written here), with each --recipe (default: int4). The checkpoint is then measured
    too if a runtime named by --runtime opens checkpoints.
    """
    rows = [RUNTIMES[name] for name in arguments.runtime or ()]
    opened = [
        name
        for name, target in TARGETS.items()
        if (not rows and target.unavailable() is None) or any(row.opens(name) for row in rows)
    ]
    asked = arguments.target or arguments.recipe or rows
    targets = arguments.target or (opened if asked else [])
    return ExportRequest(
        targets=targets,
        recipes=arguments.recipe or DEFAULT_RECIPES,
        itself=not targets or any(row.opens(None) for row in rows),
        weights=arguments.weights,
        offline=arguments.offline,
    )


def _expect_sense(arguments: argparse.Namespace) -> None:
    if arguments.threads and arguments.device:
        raise UserError("--threads and --device contradict: a device profile sets the threads")
    if arguments.resume and arguments.output is None:
        raise UserError("--resume continues a file; name it with -o RUN.jsonl")
    if arguments.output is not None and Path(arguments.output).is_dir():
        raise UserError(f"{arguments.output} is a folder; name a file with -o RUN.jsonl")


def measure(
    console: Console,
    planned: Plan,
    output: Path,
    *,
    ceilings: bool,
    resumed: bool = False,
    timeout_s: float | None = None,
) -> int:
    """Run the jobs of a plan one by one, and append a record of each job and skip to a file.

    `ceilings`: measure the machine's, too. `resumed`: go on with the journals of an interrupted
    run. `timeout_s` is that of each job. Returns 1 if a job failed, otherwise 0.
    """
    distributions = {name for row in RUNTIMES.values() for name in row.distributions}
    here = environment(distributions.union(LIBRARIES))
    for skip in planned.skips:
        append(output, skipped(skip, here))
    machines = _machines(planned, here, ceilings)
    failed = 0
    with showing(console, [job.case for job in planned.jobs]) as shown:
        for job in planned.jobs:
            on_phase = partial(shown.phase, job.case)
            noted, journal = _with_journal(job, output, resumed)
            machine = machines[job.case.threads, job.case.device]
            record = run_job(noted, timeout_s, machine, on_phase)
            append(output, record)
            journal.unlink(missing_ok=True)
            shown.end(record)
            failed += record.status == "failed"
    done = len(planned.jobs) - failed
    _print(console, f"{done} measured, {failed} failed; records in {output}")
    return 1 if failed else 0


def _with_journal(job: Job, output: Path, resumed: bool) -> tuple[Job, Path]:
    """Return the job with the path of its journal, and that path (next to the file of records).

    A journal keeps the answers of tasks with questions, in case the run is interrupted. An old one
    is deleted unless the run is `resumed`. Other jobs are returned unchanged.
    """
    name = hashlib.sha256(f"{output.name}\n{key(job.case)}".encode()).hexdigest()[:12]
    path = output.with_name(f"{output.name[:50]}.{name}.items")
    if not resumed:
        path.unlink(missing_ok=True)
    asks = isinstance(TASKS[job.case.task], QuestionTask)
    return (replace(job, journal=str(path)) if asks else job), path


def _machines(
    planned: Plan, here: Environment, wanted: bool
) -> Mapping[tuple[int, str], Environment]:
    """Map each (threads, device) of the plan to the environment that its records get.

    It has the machine's ceilings (most bytes and operations per second) if `wanted` and if a
    latency job of the plan needs them: they are measured here.
    """
    pairs = {(job.case.threads, job.case.device) for job in planned.jobs}
    timed = {
        (job.case.threads, job.case.device)
        for job in planned.jobs
        if wanted and is_latency(job.case.task)
    }
    on_cpu = {pair for pair in timed if device_of(pair[1]).kind == "cpu"}
    cpu = {threads: _ceilings(threads) for threads in {threads for threads, _ in on_cpu}}
    gpu = {device: _gpu_ceilings(device) for device in {device for _, device in timed - on_cpu}}
    return {
        (threads, device): replace(
            here,
            ceilings=cpu[threads] if (threads, device) in on_cpu else None,
            gpu_ceilings=gpu.get(device),
        )
        for threads, device in pairs
    }


def _ceilings(threads: int) -> Ceilings | None:
    """Measure the CPU's ceilings with that many threads; None if that fails."""
    answer = _output_of("bench.machine.ceilings", threads, str(threads))
    return None if answer is None else decode(Ceilings, json.loads(answer))


def _gpu_ceilings(device: str) -> GpuCeilings:
    answer = _output_of("bench.machine.gpu_ceilings", 1, device)
    if answer is None:
        return GpuCeilings(problem="measuring them failed")
    return decode(GpuCeilings, json.loads(answer))


def _output_of(module: str, threads: int, argument: str) -> bytes | None:
    """Run a module in its own process, pinned to CPUs like a job; return its last line.

    None if it fails or takes longer than CEILINGS_TIMEOUT_S.
    """
    limits = Limits(os.getpid(), choose_cpus(threads), None)
    stop = StopConditions(CEILINGS_TIMEOUT_S)
    words = command(limits, module, argument)
    ending = run_child(words, b"", variables(threads), stop, lambda line: False)
    return ending.answer if ending.code == 0 else None


def _rest(console: Console, planned: Plan, output: Path) -> Plan:
    records, damages = read([output])
    for damage in damages:
        _print(console, str(damage))
    rest = remaining(planned, records)
    done = len(planned.jobs) - len(rest.jobs)
    _print(console, f"{done} of them already have records in {output}, {len(rest.jobs)} left")
    return rest


def _show(console: Console, planned: Plan) -> None:
    """Print jobs and skips; jobs that differ only by their round are one line."""
    _print(console, f"{len(planned.jobs)} to measure, {len(planned.skips)} skipped")
    cases = [replace(job.case, round=0) for job in planned.jobs]
    counted: dict[str, int] = {}
    for case in cases:
        name = title(case).removesuffix(", round 1")
        counted[name] = counted.get(name, 0) + 1
    for name, times in counted.items():
        _print(console, f"  {name}{f', {times} rounds' if times > 1 else ''}")
    for skip in planned.skips:
        _print(console, f"  skipped: {title(skip.case)}: {skip.reason}")


def _print(console: Console, text: str) -> None:
    console.print(escape(text), highlight=False, soft_wrap=True)


def output_file(asked: str | None) -> Path:
    """Create the file of records unless it is there, and return its path.

    None: one in results/runs/, named by the time. Raises UserError if it cannot be written.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    path = Path(asked) if asked else Path("results/runs") / f"{stamp}.jsonl"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); choose another file with -o"
        ) from error
    return path
