"""The first code of a child process: limits itself as its first argument says, then is a module.

`python -m bench.launch LIMITS MODULE ARGUMENT…` does what `python -m MODULE ARGUMENT…` does.

Linux's prctl(PR_SET_PDEATHSIG) ends it with its parent, even one killed by SIGKILL. Everything
heavy is imported after the limits, so that thread pools and memory are made within them. NOT aware
of what the work is.
"""

import ctypes
import json
import os
import runpy
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from bench.limits import Limits
from export.decode import decode

PR_SET_PDEATHSIG = 1


def enter(limits: Limits) -> None:
    """Apply the limits to this process. Ends it if its parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != limits.parent:
        sys.exit(1)
    if limits.cgroup is not None:
        (Path(limits.cgroup) / "cgroup.procs").write_text("0")
    if limits.cpus:
        os.sched_setaffinity(0, limits.cpus)


def command(limits: Limits, module: str, *arguments: str) -> list[str]:
    """What a parent starts."""
    words = [sys.executable, "-P", "-m", "bench.launch", json.dumps(asdict(limits)), module]
    return [*words, *arguments]


if __name__ == "__main__":
    enter(decode(Limits, json.loads(sys.argv[1])))
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
