"""Decides how many threads a command computes with at most, and says how many it computed with."""

import sys
from collections.abc import Mapping

from runtimes.devices import threads_for
from runtimes.threads import Reason, Threads

REASONS: Mapping[Reason, str] = {
    "asked": "",
    "free": "",
    "small": "the model is small",
    "busy": "other processes used the CPUs",
    "waited": "it had to wait for CPUs that other processes used",
}


def chosen_threads(asked: int | None) -> int:
    """Return how many threads to use; None: as many as there are usable CPUs.

    If fewer are used than asked for, a note on stderr says so.
    """
    threads = threads_for(asked)
    if asked is not None and asked > threads:
        cpus = "1 CPU" if threads == 1 else f"{threads} CPUs"
        sys.stderr.write(f"note: --threads {asked}: {threads} are used, this process has {cpus}\n")
    return threads


def described(threads: Threads) -> str:
    """Return how many threads a session computed with, and why they were fewer than possible."""
    count = "1 thread" if threads.count == 1 else f"{threads.count} threads"
    reason = REASONS[threads.reason]
    return f"{count} ({reason})" if reason else count
