"""Keeps one CPU busy beside a job, to measure how the job does on a machine that is not idle.

`python -m bench.jobs.neighbour` is the busy process.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from bench.jobs.launch import command
from bench.jobs.limits import Limits


@contextmanager
def neighbour() -> Iterator[None]:
    """Context manager: runs a process that computes without pause on any one of the CPUs.

    It is a session of its own, as every job is: Linux divides CPU time equally among sessions.
    """
    words = command(Limits(os.getpid(), (), None), "bench.jobs.neighbour")
    process = subprocess.Popen(words, start_new_session=True)
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    while True:
        pass
