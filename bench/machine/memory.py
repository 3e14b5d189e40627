"""Reads the memory of this process from /proc at the end of each phase of a job.

Writing 5 to /proc/self/clear_refs resets the peak (VmHWM), so that each phase has a peak of its own
(man 5 proc_pid_clear_refs). What the system does not report is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.machine.device_memory import DeviceMemory, MemorySource
from runtimes.devices import device_of
from runtimes.nvidia import memory

STATUS, ROLLUP, CLEAR = "/proc/self/status", "/proc/self/smaps_rollup", "/proc/self/clear_refs"
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


def reset_peak() -> bool:
    """Reset this process's peak memory; returns False if the system does not allow that."""
    try:
        Path(CLEAR).write_text("5")
    except OSError:
        return False
    return True


def peak_bytes() -> int | None:
    """Return this process's highest resident set in bytes since its start or the last reset."""
    return fields(STATUS).get("VmHWM")


class Phases:
    """Records this process's memory at the end of each phase, in `done`.

    `device` is the device of the job; on a GPU its memory is recorded too. Peaks are None if the
    system does not allow to reset them.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._resets = reset_peak()
        where = device_of(device)
        self._gpu = DeviceMemory(partial(memory, where.index)) if where.kind == "cuda" else None
        self.done: list[PhaseMemory] = []

    def end(self, phase: str) -> None:
        """Record the memory of the phase that ends now under this name; the next phase starts."""
        peak = peak_bytes() if self._resets else None
        now, rollup = fields(STATUS), fields(ROLLUP)
        held, source = (None, None) if self._gpu is None else self._gpu.now()
        clean, dirty = rollup.get("Private_Clean"), rollup.get("Private_Dirty")
        self.done.append(
            PhaseMemory(
                phase=phase,
                peak_bytes=peak,
                rss_bytes=now.get("VmRSS"),
                pss_bytes=rollup.get("Pss"),
                private_bytes=None if clean is None or dirty is None else clean + dirty,
                file_bytes=rollup.get("Pss_File"),
                device_bytes=held,
                device_source=source,
            )
        )
        self._resets = self._resets and reset_peak()


def fields(path: str) -> Mapping[str, int]:
    """Parse a file's `Name:   123 kB` lines to name -> bytes; empty if there is no such file."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    words = [line.split() for line in lines]
    return {w[0].rstrip(":"): int(w[1]) * 1024 for w in words if len(w) == 3 and w[2] == "kB"}
