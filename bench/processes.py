"""The outside of a job's process: start it, sleep until it ends, and say how it ended.

A crash, a hang, a kill for memory or a user's error becomes a failed record; the rest goes on.
NOT aware of what a task measures.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from bench.environment import Environment, load
from bench.measure import timed
from bench.plan import Job, Skip
from bench.record import SCHEMA, Outcome, Record
from export.decode import decode

STDERR_LINES = 5
TAIL_BYTES = 16384
HINTS: Mapping[int, str] = {
    signal.SIGKILL: "by the system, usually for want of memory",
    signal.SIGABRT: "it aborted itself",
    signal.SIGSEGV: "it touched memory that is not its own",
    signal.SIGILL: "an instruction that this CPU does not have",
}


def run_job(job: Job, timeout_s: float | None, environment: Environment) -> Record:
    """One job in a fresh process; whatever happens to it, there is a record."""
    before, started = load(), _now()
    (outcome, reason), wall_s = timed(lambda: _run(job, timeout_s))
    return Record(
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
    )


def skipped(skip: Skip, environment: Environment) -> Record:
    """The record of a job that was not run."""
    now = load()
    return Record(
        SCHEMA, skip.case, "skipped", skip.reason, _now(), None, now, now, environment, Outcome()
    )


def _run(job: Job, timeout_s: float | None) -> tuple[Outcome, str | None]:
    with tempfile.TemporaryFile() as stderr:
        command = [sys.executable, "-P", "-m", "bench.worker"]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=_variables(job),
            start_new_session=True,
        )
        try:
            # Both pipes end with the process: this sleeps until then and does not poll.
            answer, _ = process.communicate(json.dumps(asdict(job)).encode(), timeout_s)
        except subprocess.TimeoutExpired:
            return Outcome(), f"stopped after {timeout_s:g} s (--timeout); {_tail(stderr)}"
        finally:
            _end(process)
        return _result(process.returncode, answer, lambda: _tail(stderr))


def _variables(job: Job) -> dict[str, str]:
    """The job's threads also bound those of numpy and torch; our own packages can be imported."""
    path = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(job.case.threads),
        "PYTHONPATH": os.pathsep.join(entry for entry in path if entry),
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _result(code: int, answer: bytes, tail: Callable[[], str]) -> tuple[Outcome, str | None]:
    if code < 0:
        hint = HINTS.get(-code, "")
        return Outcome(), f"killed by {signal.Signals(-code).name}{hint and f' ({hint})'}; {tail()}"
    if code > 0 or not answer:
        return Outcome(), f"ended with exit code {code}; {tail()}"
    reply = json.loads(answer)
    if "error" in reply:
        return Outcome(), str(reply["error"])
    return decode(Outcome, reply["outcome"]), None


def _tail(stderr: IO[bytes]) -> str:
    stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - TAIL_BYTES))
    lines = [line.strip() for line in stderr.read().decode(errors="replace").splitlines()]
    last = [line for line in lines if line][-STDERR_LINES:]
    return f"it last said: {' / '.join(last)}" if last else "it said nothing"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
