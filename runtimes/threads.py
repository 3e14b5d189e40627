"""Chooses how many CPU threads a session computes with, and lowers it where CPUs are contended.

The threads of a session wait for each other after every operation. So one of them that waits for a
CPU, because another process computes there, holds up all of them: beside one busy process, two
threads on two CPUs decode several times slower than one (docs/notes/2026-11-threads.md).
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from export.modeling.vlm import Vlm, decoder_parameters
from runtimes.devices import affinity

PROC = Path("/proc")
SMALL_PARAMETERS = 8_000_000
"""A decoder of fewer parameters gets one thread. With 2 million, a second one makes a step of
llama.cpp 1.5 times as long, and one of ONNX Runtime 8 % shorter; with 100 million it gains both."""
SHORTEST_S = 0.1  # ticks of /proc/stat are 10 ms
SWITCHES = 8  # threads that were taken off their CPU since the last look
WAITED = 0.2  # of the time in which the threads had something to do

Reason = Literal["asked", "free", "small", "busy", "waited"]


@dataclass(frozen=True)
class Threads:
    """How many CPU threads a session computes with, and the reason for it.

    asked   the caller chose the number
    free    one for each CPU that is usable and fast
    small   one, because the model is so small that a second one would cost more than it gains
    busy    fewer, because other processes used CPUs when the session was opened
    waited  fewer, because the session's threads had to wait for CPUs while they computed
    """

    count: int
    reason: Reason


def _switches() -> int | None:
    """Returns how often a thread of this process was taken off a CPU while it could go on."""
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


class ThreadWatch:
    """Watches the CPUs from the moment it is made, to choose a session's number of threads.

    `threads` is the number in use. Reads Linux's files; on other systems it only sees that a model
    is small.
    """

    def __init__(
        self,
        most: int,
        *,
        fixed: bool = False,
        proc: Path = PROC,
        switches: Callable[[], int | None] = _switches,
    ) -> None:
        """`most`: the largest number of threads. `fixed`: exactly these, because the caller chose
        them. `proc` and `switches` (_switches) are replaced only in tests."""
        self.threads = Threads(most, "asked" if fixed else "free")
        self.fixed = fixed or most == 1
        self._proc, self._switches = proc, switches
        self._cpus = None if self.fixed else _cpu_times(proc)
        self._switched = None if self.fixed else switches()
        self._spent = (0, 0) if self.fixed else _spent(proc)

    def choose(self, vlm: Vlm) -> None:
        """Sets the number of threads for a session of this model, unless it is fixed."""
        if self.fixed:
            return
        if decoder_parameters(vlm) < SMALL_PARAMETERS:
            self.threads = Threads(1, "small")
        elif (others := round(self._others() or 0.0)) > 0:  # ticks may leave less than nothing
            self.threads = Threads(max(1, self.threads.count - others), "busy")

    def again(self) -> "ThreadWatch":
        """Returns a watch for one more session of this process, of at most as many threads."""
        return ThreadWatch(
            self.threads.count, fixed=self.fixed, proc=self._proc, switches=self._switches
        )

    def waited(self) -> bool:
        """Takes one thread off if the process's threads had to wait for CPUs since the last look.

        Returns whether it did; then `threads` is the new number. A look takes 2 µs until threads
        have been taken off their CPUs several times.
        """
        if self.fixed or self.threads.count == 1:
            return False
        switched = self._switches()
        if switched is None or switched - (self._switched or 0) < SWITCHES:
            return False
        spent = _spent(self._proc)
        ran, waited = (new - old for new, old in zip(spent, self._spent, strict=True))
        self._switched, self._spent = switched, spent
        if waited <= WAITED * (ran + waited):
            return False
        self.threads = Threads(self.threads.count - 1, "waited")
        return True

    def _others(self) -> float | None:
        """Returns how many CPUs other processes used since the watch was made; None: not known."""
        before, after = self._cpus, _cpu_times(self._proc)
        if before is None or after is None or not before.count:
            return None
        seconds = (after.all_s - before.all_s) / before.count
        if seconds < SHORTEST_S:
            return None
        return (after.busy_s - before.busy_s - (after.own_s - before.own_s)) / seconds


@dataclass(frozen=True)
class _CpuTimes:
    """Seconds since boot of the CPUs that this process may run on: all, busy, and its own."""

    count: int
    all_s: float
    busy_s: float
    own_s: float


def _cpu_times(proc: Path) -> _CpuTimes | None:
    """Reads the times of the usable CPUs; None where the system does not show them."""
    try:
        lines = (proc / "stat").read_text().splitlines()
    except OSError:
        return None
    words = [line.split() for line in lines if line.startswith("cpu")]
    usable = {f"cpu{number}" for number in affinity()}
    ticks = [[int(word) for word in line[1:9]] for line in words if line[0] in usable]
    second = os.sysconf("SC_CLK_TCK")
    own = os.times()
    return _CpuTimes(
        len(ticks),
        sum(map(sum, ticks)) / second,
        # man 5 proc_stat: user, nice, system, idle, iowait, irq, softirq, steal
        sum(sum((*line[:3], *line[5:])) for line in ticks) / second,
        own.user + own.system,
    )


def _spent(proc: Path) -> tuple[int, int]:
    """Returns the nanoseconds that this process's threads computed, and waited for a CPU."""
    times = [*_of_each_thread(proc)]
    return sum(ran for ran, _ in times), sum(waited for _, waited in times)


def _of_each_thread(proc: Path) -> Iterator[tuple[int, int]]:
    for folder in (proc / "self/task").glob("*"):
        with suppress(OSError, ValueError):  # a thread that ended, or a kernel without the file
            ran, waited, *_ = (folder / "schedstat").read_text().split()
            yield int(ran), int(waited)
