"""The program of a job's process: reads a Job as JSON from stdin, does it, writes the Outcome.

Both are a line of JSON. Before each phase it writes the phase's name and waits for a reply, so that
the parent process sleeps during a measurement. bench.jobs.launch starts it. NOT aware of plans,
rounds or reports.
"""

import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from bench.jobs import page_cache
from bench.jobs.flops import work_of
from bench.jobs.plan import Job
from bench.machine.memory import Phases
from bench.measure import Timing, timed
from bench.record import Outcome, Work
from bench.subjects import expect_planned, load, weight_files, within_tiles
from bench.tasks import Context, is_latency, run
from bench.tasks.journal import Journal
from export.artifact import Artifact
from export.count import FLOAT_BYTES
from export.decode import decode
from export.errors import UserError
from export.model import Model
from export.origin import difference
from runtimes import RUNTIMES, Runtime
from runtimes.base import ChoosingSession, RemoteSession, Session
from runtimes.devices import device_of
from runtimes.nvidia import GpuState, state
from runtimes.threads import ThreadWatch

REFERENCE = "reference"
Notify = Callable[[str], None]


def perform(job: Job, notify: Notify = lambda phase: None) -> Outcome:
    """Load the job's artifact or checkpoint, do its task, and return what was measured.

    `notify` is called with the name of each phase before it starts. For the latency task, the files
    are dropped from the page cache before loading, and loaded again, cached, at the end.
    """
    case, runtime = job.case, RUNTIMES[job.case.runtime]
    notify("starting")
    watch = ThreadWatch(case.threads, fixed=job.fixed_threads)
    phases, before = Phases(case.device), _gpu(case.device)
    runtime.preload(case.subject.layout)
    phases.end("start")

    notify("loading")
    planned = _load(job)
    expect_planned(planned, case.subject)  # reads the files, so not within a timing
    cold = is_latency(case.task) and page_cache.drop(weight_files(planned))
    loaded, session, first_s = _open(job, watch)
    if isinstance(session, RemoteSession):
        phases.follow(session.processes)
        cold = False  # it was given the files before it measured
    phases.end("loaded")

    journal = Journal(Path(job.journal) if job.journal else None)
    open_reference = partial(_open_reference, job, watch)
    context = Context(case, loaded, session, phases, open_reference, notify, journal)
    outcome = _described(run(context), job)
    after = _gpu(case.device)
    journal.close()
    phases.end("answers")
    choices = session.choices if isinstance(session, ChoosingSession) else {}
    browser = session.surroundings() if isinstance(session, RemoteSession) else None
    session.close()
    outcome = replace(outcome, memory=tuple(phases.done), cpus=_cpus(), browser=browser)
    outcome = replace(outcome, gpu_before=before, gpu_after=after, threads=watch.threads)
    outcome = replace(outcome, choices=choices)
    if not outcome.timings:
        return replace(outcome, load_s=first_s)
    del session, context
    notify("loading again")
    return replace(
        outcome,
        work=_work(loaded, outcome.timings[0], runtime, case.device),
        cold_load_s=first_s if cold else None,
        load_s=_load_again_s(job, watch.again()),
    )


def main() -> int:
    """Do the job that stdin describes, and write its result as the last line of stdout; returns 0.

    The line is {"outcome": …}, or {"error": message} for a UserError.
    """
    # Native libraries print to file descriptor 1, so it becomes stderr's. `answer` stays open until
    # the process ends, which is how the parent notices the end.
    answer = open(os.dup(1), "w", encoding="utf-8")  # noqa: SIM115
    os.dup2(2, 1)
    job = decode(Job, json.loads(sys.stdin.readline()))
    logging.basicConfig(
        level=logging.ERROR, format="%(message)s"
    )  # errors that libraries log before they fail

    def send(message: dict[str, object]) -> None:
        answer.write(json.dumps(message, allow_nan=False) + "\n")
        answer.flush()

    def notify(phase: str) -> None:
        send({"phase": phase})
        sys.stdin.readline()

    try:
        send({"outcome": asdict(perform(job, notify))})
    except UserError as error:
        send({"error": str(error)})
    return 0


def _described(outcome: Outcome, job: Job) -> Outcome:
    """Add to a fidelity outcome whether its reference is what the artifact was exported from."""
    if outcome.agreement is None or job.reference is None:
        return outcome
    differs = difference(job.case.subject.origin, job.reference.origin)
    return replace(outcome, agreement=replace(outcome.agreement, other=differs))


def _load(job: Job) -> Artifact | Model:
    loaded = load(job.location, job.offline, job.weights)
    return within_tiles(loaded, job.case.options.max_tiles)


def _open(job: Job, watch: ThreadWatch) -> tuple[Artifact | Model, Session, float | None]:
    """Open the artifact or checkpoint and a session on it; return both and the seconds it took.

    A session that works elsewhere has measured that itself; None: it could not.
    """
    loaded, reading_s = timed(lambda: _load(job))
    runtime, device = RUNTIMES[job.case.runtime], job.case.device
    session, opening_s = timed(lambda: runtime.open_session(loaded, threads=watch, device=device))
    if isinstance(session, RemoteSession):
        return loaded, session, session.load_s
    return loaded, session, reading_s + opening_s


def _load_again_s(job: Job, watch: ThreadWatch) -> float | None:
    """Load once more, with initialized libraries and cached files; return the seconds it took."""
    page_cache.warm(weight_files(_load(job)))
    _, session, seconds = _open(job, watch)
    session.close()
    return seconds


def _work(loaded: Artifact | Model, timing: Timing, runtime: Runtime, device: str) -> Work:
    """Compute the operations and bytes of one request.

    On a GPU the weights of a checkpoint have as many bytes as cached keys and values.
    """
    values = runtime.value_bytes(device)
    on_cpu = device_of(device).kind == "cpu"
    return work_of(loaded, timing, values, FLOAT_BYTES if on_cpu else values)


def _gpu(device: str) -> GpuState | None:
    where = device_of(device)
    return state(where.index) if where.kind == "cuda" else None


def _cpus() -> tuple[int, ...] | None:
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def _open_reference(job: Job, watch: ThreadWatch) -> tuple[str, Session]:
    assert job.reference is not None, "the plan sets the reference of a fidelity task"
    model = within_tiles(job.reference.open(job.offline), job.case.options.max_tiles)
    assert isinstance(model, Model), "a reference is a checkpoint"
    return model.name, RUNTIMES[REFERENCE].open_session(model, threads=watch.again())


if __name__ == "__main__":
    sys.exit(main())
