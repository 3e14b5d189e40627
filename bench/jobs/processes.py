"""Runs one job in its own process and makes its record, however the job ended.

A crash, a timeout, a kill for lack of memory, a full disk or a user's error becomes a record with
status "failed", so that the run goes on with its other jobs.
"""

import json
import os
import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from bench.analysis.noise import noise
from bench.jobs.child import Ending, StopConditions, run_child
from bench.jobs.launch import command
from bench.jobs.limits import Group, Limits, choose_cpus, memory_group
from bench.jobs.neighbour import neighbour
from bench.jobs.plan import Job, Skip
from bench.machine.environment import Environment, load
from bench.machine.memory import PhaseMemory
from bench.machine.profiles import PROFILES
from bench.measure import timed
from bench.record import SCHEMA, Outcome, Record
from export.decode import decode
from runtimes import RUNTIMES
from runtimes.devices import device_of
from runtimes.nvidia import MEMORY

OnPhase = Callable[[str], None]
HINTS: Mapping[int, str] = {
    signal.SIGKILL: "by the system, usually because memory ran out",
    signal.SIGABRT: "it aborted itself",
    signal.SIGSEGV: "it touched memory that is not its own",
    signal.SIGILL: "an instruction that this CPU does not have",
}


def run_job(
    job: Job,
    timeout_s: float | None,
    environment: Environment,
    on_phase: OnPhase = lambda phase: None,
) -> Record:
    """Run one job in a new process and return its record, with status "ok" or "failed".

    `environment` is stored in the record. `on_phase` is called with the name of each phase as it
    starts, and the job waits until it returns. `timeout_s` None: no limit.
    """
    before, started, cpu_s = load(), _now(), _children_s()
    with ExitStack() as beside:  # what ends after the job's CPU time was read
        (outcome, reason), wall_s = timed(lambda: _run(job, timeout_s, on_phase, beside))
        cpu_s = _children_s() - cpu_s
    record = Record(
        schema=SCHEMA,
        case=job.case,
        status="ok" if reason is None else "failed",
        reason=reason,
        started_at=started,
        wall_s=wall_s,
        before=before,
        after=load(),
        environment=environment,
        outcome=outcome,
        cpu_s=cpu_s,
    )
    return replace(record, noise=noise(record))


def skipped(skip: Skip, environment: Environment) -> Record:
    """Make the record of a job that is skipped, with its reason."""
    now = load()
    return Record(
        SCHEMA, skip.case, "skipped", skip.reason, _now(), None, now, now, environment, Outcome()
    )


def variables(threads: int, offline: bool = False) -> dict[str, str]:
    """Return the environment variables for a job's process.

    They are this process's, with the number of threads of numpy and torch, and PocketVLM's folder
    on the import path. `offline` keeps the Hugging Face libraries off the network. Variables that
    some runtime sets (Runtime.variables) are removed: only the jobs of that runtime get them.
    """
    path = [str(Path(__file__).parent.parent.parent), os.environ.get("PYTHONPATH", "")]
    stop = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    ours = {name for row in RUNTIMES.values() for name in row.variables}
    return {
        **{name: value for name, value in os.environ.items() if name not in ours},
        **stop,
        **({"HF_HUB_OFFLINE": "1"} if offline else {}),
        "GGML_NO_BACKTRACE": "1",  # so that ggml's last output is the failed assertion
        "PYTHONPATH": os.pathsep.join(entry for entry in path if entry),
    }


def _run(
    job: Job, timeout_s: float | None, on_phase: OnPhase, beside: ExitStack
) -> tuple[Outcome, str | None]:
    """Run the job's process; what shall go on until its CPU time is read enters `beside`."""
    budget = budget_bytes(job)
    held = budget if device_of(job.case.device).kind == "cpu" else None
    try:
        if job.case.options.contended:
            beside.enter_context(neighbour())
        with memory_group(held) as group:
            ending = _run_child(
                job, StopConditions(timeout_s, None if group else held), group, on_phase
            )
            outcome, reason = _result(ending)
            if budget is None:
                return outcome, reason
            if held is None:
                return _within_gpu(outcome, budget), reason
            outcome = replace(outcome, held_by="cgroup" if group else "watchdog")
            return _within(outcome, reason, budget, ending, group)
    except OSError as error:  # a full disk or process table: the job has not started
        return Outcome(), f"the process could not be started: {error.strerror or error}"


def budget_bytes(job: Job) -> int | None:
    """Memory in bytes that the job's device profile allows; None without a profile.

    On a GPU it is GPU memory.
    """
    return None if job.case.profile is None else PROFILES[job.case.profile].memory_bytes


def _run_child(job: Job, stop: StopConditions, group: Group | None, on_phase: OnPhase) -> Ending:
    cgroup = None if group is None else str(group.path)
    limits = Limits(os.getpid(), choose_cpus(job.case.threads), cgroup)

    def on_line(line: bytes) -> bool:
        if not line.startswith(b'{"phase"'):
            return False
        on_phase(str(json.loads(line)["phase"]))
        return True

    question = json.dumps(asdict(job)).encode()
    words = command(limits, "bench.jobs.worker")
    of_runtime = RUNTIMES[job.case.runtime].variables
    environment = {**variables(job.case.threads, job.offline), **of_runtime}
    return run_child(words, question, environment, stop, on_line)


def _result(ending: Ending) -> tuple[Outcome, str | None]:
    code, output = ending.code, ending.last_output
    if ending.stopped is not None:
        return Outcome(), f"{ending.stopped}; {output}"
    if code < 0:
        hint = "memory ran out" if MEMORY.search(output) else HINTS.get(-code, "")
        return Outcome(), f"killed by {signal.Signals(-code).name}{hint and f' ({hint})'}; {output}"
    reply = {} if code > 0 or not ending.answer else json.loads(ending.answer)
    if "error" in reply:
        return Outcome(), str(reply["error"])
    if "outcome" not in reply:
        return Outcome(), f"ended with exit code {code}; {output}"
    return decode(Outcome, reply["outcome"]), None


def _within(
    outcome: Outcome, reason: str | None, budget: int, ending: Ending, group: Group | None
) -> tuple[Outcome, str | None]:
    """Add to the outcome whether the job stayed within `budget` bytes.

    `reason` is why the job failed; None: it did not. For a job that was ended because it exceeded
    the budget, returns that as the reason, and its peak memory.
    """
    killed = ending.peak_bytes is not None or (group is not None and group.exceeded())
    if killed:
        peak = ending.peak_bytes or (group.peak_bytes() if group else None)
        memory = (PhaseMemory("stopped", peak, None, None, None, None),)
        failed = replace(outcome, memory=memory, budget_bytes=budget, fits=False)
        size = "" if peak is None else f" at {peak / 1e6:,.0f} MB"
        return failed, f"does not fit: stopped{size} of a budget of {budget / 1e6:,.0f} MB"
    fits = _all_within([memory.peak_bytes for memory in outcome.memory], budget)
    return replace(outcome, budget_bytes=budget, fits=fits), reason


def _within_gpu(outcome: Outcome, budget: int) -> Outcome:
    """Add to the outcome whether the job's peak GPU memory was within `budget` bytes.

    GPU memory is only compared afterwards, not limited while the job runs.
    """
    phases = [
        memory for memory in outcome.memory if memory.phase != "start"
    ]  # before the GPU is used
    fits = _all_within([memory.device_bytes for memory in phases], budget)
    return replace(outcome, budget_bytes=budget, fits=fits)


def _all_within(sizes: Sequence[int | None], budget: int) -> bool | None:
    """Whether all sizes are within the budget; None if one of them is None or there are none."""
    known = [size for size in sizes if size is not None]
    return max(known) <= budget if known and len(known) == len(sizes) else None


def _children_s() -> float:
    """Seconds of CPU time, user and system, of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
