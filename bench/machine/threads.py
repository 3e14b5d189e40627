"""Decides how many threads a command computes with, from the option --threads."""

import sys

from runtimes.devices import threads_for


def chosen_threads(asked: int | None) -> int:
    """Return how many threads to use; None: as many as there are usable CPUs.

    If fewer are used than asked for, a note on stderr says so.
    """
    threads = threads_for(asked)
    if asked is not None and asked > threads:
        cpus = "1 CPU" if threads == 1 else f"{threads} CPUs"
        sys.stderr.write(f"note: --threads {asked}: {threads} are used, this process has {cpus}\n")
    return threads
