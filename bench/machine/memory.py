"""Reads the memory of a job's process from /proc at the end of each phase.

That is this process, or those that do its work, such as a browser's. Writing 5 to clear_refs resets
the peak (VmHWM), so that each phase has a peak of its own (man 5 proc_pid_clear_refs). What the
system does not report is None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.machine.device_memory import DeviceMemory, MemorySource
from runtimes.devices import device_of
from runtimes.nvidia import memory

PROC = Path("/proc")
STATUS, ROLLUP, CLEAR = "status", "smaps_rollup", "clear_refs"
SELF = "self"
PHASES = ("start", "loaded", "image", "prefill", "decode")
"""Phases up to the end of the first answer. A last one, `answers`, covers everything after it."""


@dataclass(frozen=True)
class PhaseMemory:
    """Memory of a job's whole process in one phase, in bytes; None: the system does not report it.

    `peak_bytes` is the highest resident set within the phase; all others are from its end. The
    phase `start` is the interpreter with the runtime's libraries, before a model is loaded.
    `rss_bytes` and `pss_bytes` are Linux's RSS and PSS. `private_bytes` would be freed if the
    process ended. `file_bytes`, a part of PSS, are pages of files, such as mapped weights, that the
    system may drop and read again.
    """

    phase: str
    peak_bytes: int | None
    rss_bytes: int | None
    pss_bytes: int | None
    private_bytes: int | None
    file_bytes: int | None
    device_bytes: int | None = None
    """GPU memory of this process at the phase's end; None without a GPU."""
    device_source: MemorySource | None = None
    """Where `device_bytes` comes from: "process", the driver's figure for this process, or "card",
    the growth of the GPU's used memory. None without a figure."""


def reset_peak(process: str = SELF) -> bool:
    """Reset a process's peak memory; returns False if the system does not allow that.

    `process` is its id, by default this one.
    """
    try:
        (PROC / process / CLEAR).write_text("5")
    except OSError:
        return False
    return True


def peak_bytes(processes: Sequence[int | str] = (SELF,)) -> int | None:
    """Return the highest resident set in bytes of processes since their start or last reset.

    By default it is this process. Of several it is the sum, although they may not have been at
    their highest at once. None: not known, or no processes.
    """
    return _sum([fields(f"{PROC}/{process}/{STATUS}") for process in processes], "VmHWM")


class Phases:
    """Records this process's memory at the end of each phase, in `done`.

    `device` is the device of the job; on a GPU its memory is recorded too. Peaks are None if the
    system does not allow to reset them.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._processes: tuple[str, ...] = (SELF,)
        self._resets = reset_peak()
        where = device_of(device)
        self._gpu = DeviceMemory(partial(memory, where.index)) if where.kind == "cuda" else None
        self.done: list[PhaseMemory] = []

    def follow(self, processes: Sequence[int]) -> None:
        """Record from now on the memory of other processes, which do the work; () for none.

        What was recorded of this one is forgotten. The present phase counts as theirs from their
        start.
        """
        self._processes = tuple(map(str, processes))
        self.done.clear()

    def end(self, phase: str) -> None:
        """Record the memory of the phase that ends now under this name; the next phase starts."""
        peak = peak_bytes(self._processes) if self._resets else None
        now = [fields(f"{PROC}/{process}/{STATUS}") for process in self._processes]
        rollup = [fields(f"{PROC}/{process}/{ROLLUP}") for process in self._processes]
        held, source = (None, None) if self._gpu is None else self._gpu.now()
        clean, dirty = _sum(rollup, "Private_Clean"), _sum(rollup, "Private_Dirty")
        self.done.append(
            PhaseMemory(
                phase=phase,
                peak_bytes=peak,
                rss_bytes=_sum(now, "VmRSS"),
                pss_bytes=_sum(rollup, "Pss"),
                private_bytes=None if clean is None or dirty is None else clean + dirty,
                file_bytes=_sum(rollup, "Pss_File"),
                device_bytes=held,
                device_source=source,
            )
        )
        self._resets = self._resets and all([reset_peak(process) for process in self._processes])


def _sum(of_processes: Sequence[Mapping[str, int]], name: str) -> int | None:
    """Return the sum of a field over processes; None if one does not have it, or there are none."""
    values = [found.get(name) for found in of_processes]
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def fields(path: str) -> Mapping[str, int]:
    """Parse a file's `Name:   123 kB` lines to name -> bytes; empty if there is no such file."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    words = [line.split() for line in lines]
    return {w[0].rstrip(":"): int(w[1]) * 1024 for w in words if len(w) == 3 and w[2] == "kB"}
