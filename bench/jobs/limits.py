"""What a job's process is held to: its CPUs, its memory, its parent's life.

Memory: a cgroup (of either version) where the system lets us make one; then the kernel stops the
job at the byte, and pages of files count but are dropped first. Elsewhere a watchdog: the parent
reads the resident set (of the job's process alone, pages of files included) ten times a second and
ends it above the budget, so a burst can overshoot by what is touched in a tenth of a second. Limits
of address space (RLIMIT_AS, RLIMIT_DATA) are not used: they count what is reserved, not what is
used. Without a profile nothing is read at all. NOT aware of jobs or tasks.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.machine.memory import fields

CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
MEMORY_CGROUPS = "memory"  # folder of the memory controller's own hierarchy, in version 1
CPUS = Path("/sys/devices/system/cpu")
WATCH_S = 0.1


@dataclass(frozen=True)
class Limits:
    """What bench.jobs.launch applies to itself before anything else is imported."""

    parent: int
    """Process that must live: when it ends, however it ends, the kernel kills the job."""
    cpus: tuple[int, ...]
    cgroup: str | None


def choose_cpus(threads: int, cpus: Path = CPUS) -> tuple[int, ...]:
    """As many of the usable logical CPUs: one of each core first, then their siblings."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    usable = sorted(os.sched_getaffinity(0))
    seen: dict[str, int] = {}
    turns = []
    for number in usable:
        core = _text(cpus / f"cpu{number}/topology/thread_siblings_list") or str(number)
        seen[core] = seen.get(core, -1) + 1
        turns.append((seen[core], number))
    return tuple(number for _, number in sorted(turns)[:threads])


@dataclass(frozen=True)
class Group:
    """A cgroup made for one job; `events` and `peak` are files of it."""

    path: Path
    events: str
    peak: str

    def exceeded(self) -> bool:
        """Whether the kernel killed something in it for want of memory."""
        words = (_text(self.path / self.events) or "").split()
        counts = dict(zip(words[::2], words[1::2], strict=False))
        return int(counts.get("oom_kill", "0")) > 0

    def peak_bytes(self) -> int | None:
        """The most it ever held, pages of files included (version 2: Linux 5.19 and newer)."""
        text = _text(self.path / self.peak)
        return int(text) if text else None


@contextmanager
def memory_group(
    budget_bytes: int | None, root: Path = CGROUPS, own: Path = OWN_CGROUP
) -> Iterator[Group | None]:
    """A cgroup of that size for one job, or None where none can be made (or nothing is asked)."""
    group = None
    if budget_bytes is not None:
        group = _version_2(budget_bytes, root, own) or _version_1(budget_bytes, root, own)
    try:
        yield group
    finally:
        if group is not None:
            with suppress(OSError):
                group.path.rmdir()


def _version_2(budget_bytes: int, root: Path, own: Path) -> Group | None:
    """Beside one of our own ancestors, where a process may go that starts here."""
    inside = _inside(root, own, "")
    if inside is None or not (root / "cgroup.controllers").exists():
        return None
    settings = {"memory.max": str(budget_bytes), "memory.swap.max": "0"}
    for parent in (inside, *inside.parents):
        if "memory" in (_text(parent / "cgroup.subtree_control") or "").split():
            path = _made(parent, settings)
            if path is not None:
                return Group(path, "memory.events", "memory.peak")
        if parent == root:
            break
    return None


def _version_1(budget_bytes: int, root: Path, own: Path) -> Group | None:
    """Inside our own, whose limits hold, too. The second limit is that of memory and swap."""
    inside = _inside(root / MEMORY_CGROUPS, own, "memory")
    if inside is None:
        return None
    names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    path = _made(inside, dict.fromkeys(names, str(budget_bytes)))
    if path is None:
        return None
    return Group(path, "memory.oom_control", "memory.max_usage_in_bytes")


def _inside(root: Path, own: Path, controller: str) -> Path | None:
    """Our own cgroup in the hierarchy of a controller; the controllers' own one has no name."""
    for line in (_text(own) or "").splitlines():
        _, controllers, place = line.split(":", 2)
        if controller in controllers.split(","):
            return root / place.lstrip("/")
    return None


def _made(parent: Path, settings: Mapping[str, str]) -> Path | None:
    """A cgroup with these settings, written in their order; None where that is not allowed."""
    path = parent / f"pocketvlm-{os.getpid()}"
    with suppress(OSError):
        path.rmdir()  # one that a killed run of the same number left
    try:
        path.mkdir()
        for name, value in settings.items():
            (path / name).write_text(value)
    except OSError:
        with suppress(OSError):
            path.rmdir()
        return None
    return path


def resident_bytes(process: int) -> int | None:
    """What a process holds in memory now; None when it has ended."""
    return fields(f"/proc/{process}/status").get("VmRSS")


def highest_bytes(process: int) -> int | None:
    """Its peak since it was last reset."""
    return fields(f"/proc/{process}/status").get("VmHWM")


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
