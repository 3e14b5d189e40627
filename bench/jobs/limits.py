"""Chooses the CPUs of a job's process, and limits its memory to that of a device profile.

Memory is limited by a cgroup (version 1 or 2) if the system allows one: the kernel enforces it to
the byte; pages of files count, but are dropped first. Otherwise the parent process reads the job's
resident set (mapped files included) ten times a second and ends the job above the budget, so a
short burst can exceed it. RLIMIT_AS and RLIMIT_DATA are not used, because they count reserved
memory, not used memory. Without a device profile memory is neither limited nor watched.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.machine.memory import fields
from runtimes.devices import fast_cpus

CGROUPS, OUR_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
MEMORY_CGROUPS = "memory"  # folder of the memory controller's own hierarchy, in version 1
CPUS = Path("/sys/devices/system/cpu")
WATCH_S = 0.1


@dataclass(frozen=True)
class Limits:
    """Limits that bench.jobs.launch applies to the process of a job.

    `cpus` are the logical CPUs it may run on (empty: all), `cgroup` is the folder of the cgroup
    that limits its memory (None: no limit by the kernel).
    """

    parent: int
    """Process id of the parent; when it ends, the kernel kills the job."""
    cpus: tuple[int, ...]
    cgroup: str | None


def choose_cpus(threads: int, cpus: Path = CPUS) -> tuple[int, ...]:
    """Choose logical CPUs for a job with that many threads; () where they cannot be chosen.

    Of the CPUs that this process may use, takes fast ones first, and one of each core before the
    second ones. `cpus` is the folder in /sys that describes the cores.
    """
    if not hasattr(os, "sched_getaffinity"):
        return ()
    usable = sorted(os.sched_getaffinity(0))
    fast = fast_cpus(cpus)
    seen: dict[str, int] = {}
    turns = []
    for number in usable:
        core = _text(cpus / f"cpu{number}/topology/thread_siblings_list") or str(number)
        seen[core] = seen.get(core, -1) + 1
        turns.append((number not in fast, seen[core], number))
    return tuple(number for *_, number in sorted(turns)[:threads])


@dataclass(frozen=True)
class Group:
    """A cgroup that limits the memory of one job.

    `path` is its folder; `events` and `peak` are the files in it that tell whether memory ran out,
    and the peak memory.
    """

    path: Path
    events: str
    peak: str

    def exceeded(self) -> bool:
        """Whether the kernel killed a process of the group because its memory ran out."""
        words = (_text(self.path / self.events) or "").split()
        counts = dict(zip(words[::2], words[1::2], strict=False))
        return int(counts.get("oom_kill", "0")) > 0

    def peak_bytes(self) -> int | None:
        """Peak memory of the group, pages of files included; None before Linux 5.19 (version 2)."""
        text = _text(self.path / self.peak)
        return int(text) if text else None


@contextmanager
def memory_group(
    budget_bytes: int | None, root: Path = CGROUPS, ours: Path = OUR_CGROUP
) -> Iterator[Group | None]:
    """Create a cgroup that limits one job to `budget_bytes`, and remove it at the end.

    Yields None if the budget is None, or if the system allows no cgroup. `root` is the folder of
    all cgroups; `ours` is the file that names those of this process.
    """
    group = None
    if budget_bytes is not None:
        group = _version_2(budget_bytes, root, ours) or _version_1(budget_bytes, root, ours)
    try:
        yield group
    finally:
        if group is not None:
            with suppress(OSError):
                group.path.rmdir()


def _version_2(budget_bytes: int, root: Path, ours: Path) -> Group | None:
    """Create a cgroup of version 2 under one of this process's own; None if that is not allowed."""
    inside = _inside(root, ours, "")
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


def _version_1(budget_bytes: int, root: Path, ours: Path) -> Group | None:
    """Create a cgroup of version 1 in this process's own; None if that is not allowed.

    Of the two limits that are set, the second includes swap.
    """
    inside = _inside(root / MEMORY_CGROUPS, ours, "memory")
    if inside is None:
        return None
    names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    path = _made(inside, dict.fromkeys(names, str(budget_bytes)))
    if path is None:
        return None
    return Group(path, "memory.oom_control", "memory.max_usage_in_bytes")


def _inside(root: Path, ours: Path, controller: str) -> Path | None:
    """Return the folder of this process's cgroup for a controller such as "memory".

    The controller "" stands for version 2, which has one hierarchy for all. None: there is no such
    cgroup.
    """
    for line in (_text(ours) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return root / path.lstrip("/")
    return None


def _made(parent: Path, settings: Mapping[str, str]) -> Path | None:
    """Create a cgroup in `parent` and write its settings (file -> value) in their order.

    Returns its folder; None if that is not allowed.
    """
    path = parent / f"pocketvlm-{os.getpid()}"
    with suppress(OSError):
        path.rmdir()  # a killed run with the same process id may have left it
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
    """Return the resident set in bytes of the process with this id; None if it has ended."""
    return fields(f"/proc/{process}/status").get("VmRSS")


def highest_bytes(process: int) -> int | None:
    """Return the peak resident set in bytes of a process since its start or its last reset.

    `process` is its id. None if it has ended.
    """
    return fields(f"/proc/{process}/status").get("VmHWM")


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
