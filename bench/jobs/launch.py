"""Runs a module in this process after limiting the process to some CPUs and some memory.

`python -m bench.jobs.launch LIMITS MODULE ARGUMENT…` does what `python -m MODULE ARGUMENT…` does,
with LIMITS, a JSON object of `Limits`. Heavy libraries are imported after the limits are set, so
that their thread pools and memory are within them. On Linux prctl(PR_SET_PDEATHSIG) ends the
process with its parent, even if the parent is killed by SIGKILL.
"""

import ctypes
import json
import os
import runpy
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from bench.jobs.limits import Limits
from export.decode import decode

PR_SET_PDEATHSIG = 1


def enter(limits: Limits) -> None:
    """Apply the limits to this process. Raises SystemExit(1) if its parent has already ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != limits.parent:
        sys.exit(1)
    if limits.cgroup is not None:
        (Path(limits.cgroup) / "cgroup.procs").write_text("0")
    if limits.cpus:
        os.sched_setaffinity(0, limits.cpus)


def command(limits: Limits, module: str, *arguments: str) -> list[str]:
    """Return the command line that runs `python -m module arguments…` within the limits."""
    words = [sys.executable, "-P", "-m", "bench.jobs.launch", json.dumps(asdict(limits)), module]
    return [*words, *arguments]


if __name__ == "__main__":
    enter(decode(Limits, json.loads(sys.argv[1])))
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
