"""The inside of a job's process: a job as JSON on stdin, its outcome as JSON on the old stdout.

Started by bench.processes as `python -m bench.worker`. NOT aware of plans, rounds or reports.
"""

import json
import os
import sys
from dataclasses import asdict, replace

from bench.measure import timed
from bench.memory import Phases
from bench.plan import Job
from bench.record import Outcome
from bench.subjects import load
from bench.tasks import TASKS, Context
from export.decode import decode
from export.errors import UserError
from export.model import Model
from runtimes import RUNTIMES
from runtimes.base import Session

REFERENCE = "reference"


def perform(job: Job) -> Outcome:
    """Open the subject, do the task, close it."""
    case, runtime = job.case, RUNTIMES[job.case.runtime]
    phases = Phases()
    runtime.preload()
    phases.end("start")

    loaded, seconds = timed(lambda: load(job.location, job.offline))
    session, opening_s = timed(
        lambda: runtime.open_session(loaded, threads=case.threads, device=case.device)
    )
    phases.end("loaded")

    context = Context(case, loaded, session, phases, lambda: _open_reference(job))
    outcome = TASKS[case.task].run(context)
    session.close()
    return replace(outcome, load_s=seconds + opening_s, memory=tuple(phases.done))


def main() -> int:
    """Answer with one line: {"outcome": …} or {"error": …}."""
    # Native libraries print to file descriptor 1 as they like: it becomes stderr's.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)
        job = decode(Job, json.load(sys.stdin))
        reply: dict[str, object]
        try:
            reply = {"outcome": asdict(perform(job))}
        except UserError as error:
            reply = {"error": str(error)}
        answer.write(json.dumps(reply, allow_nan=False))
    return 0


def _open_reference(job: Job) -> tuple[str, Session]:
    assert job.reference is not None, "the plan gives a reference to tasks that need one"
    model = load(job.reference, job.offline)
    if not isinstance(model, Model):
        raise UserError(f"--reference {job.reference}: this is an artifact, not a checkpoint")
    return model.name, RUNTIMES[REFERENCE].open_session(model, threads=job.case.threads)


if __name__ == "__main__":
    sys.exit(main())
