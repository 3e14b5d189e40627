"""Parses names of devices (cpu, cuda, cuda:1) and lists the kinds of machines."""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from export.errors import UserError

DeviceKind = Literal["cpu", "cuda"]
MachineKind = Literal["phone", "board", "computer"]
"""board: a single-board computer; computer: a laptop, desktop or server."""

MEMBERSHIP, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
CPUS = Path("/sys/devices/system/cpu")
FAST = 0.4  # of the fastest CPU's capacity: above the small cores of phones (0.16 to 0.32)


@dataclass(frozen=True)
class Device:
    """The processor that a session computes on: the CPU or one GPU.

    `index` is the GPU's number in the order in which CUDA lists GPUs, from 0; it is 0 for the CPU.
    """

    kind: DeviceKind = "cpu"
    index: int = 0


CPU = Device()


def device_of(name: str) -> Device:
    """Returns the Device that a name stands for: "cpu", "cuda" (the first GPU) or "cuda:N".

    Raises UserError for any other name.
    """
    match = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", name)
    if match is None:
        raise UserError(f"device '{name}': there is cpu, cuda, or cuda:N for the GPU number N")
    return CPU if name == "cpu" else Device("cuda", int(match[1] or 0))


def threads_for(asked: int | None) -> int:
    """Returns how many threads to compute with: `asked`, but at most the usable CPUs; None: one for
    each fast one of these.

    More threads than CPUs wait for each other: 999 on two CPUs took minutes to load a small model.
    """
    return min(usable_cpus(), len(fast_cpus()) if asked is None else asked)


def fast_cpus(cpus: Path = CPUS) -> frozenset[int]:
    """Returns the numbers of the usable CPUs whose capacity is at least FAST of the fastest one's.

    Linux states capacities where cores differ, as in phones (cpu_capacity in the folder `cpus`);
    elsewhere all usable CPUs are fast.
    """
    found = {number: _text(cpus / f"cpu{number}/cpu_capacity").strip() for number in affinity()}
    capacity = {number: int(text) for number, text in found.items() if text.isdecimal()}
    most = max(capacity.values(), default=0)
    return frozenset(number for number in found if capacity.get(number, most) >= FAST * most)


def affinity() -> frozenset[int]:
    """Returns the numbers of the logical CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def usable_cpus(membership: Path = MEMBERSHIP, cgroups: Path = CGROUPS) -> int:
    """Returns the number of logical CPUs that this process may use.

    That is those it may run on, or fewer if a cgroup limits its CPU time, as a container's does; a
    part of a CPU counts as a whole one. The paths are replaced only in tests.
    """
    return min([len(affinity()), *_cgroup_limits(membership, cgroups)])


def _cgroup_limits(membership: Path, cgroups: Path) -> Iterator[int]:
    """Yields the CPUs that each cgroup of this process allows; nothing where there is no limit."""
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / controllers  # version 2 names no controllers
        folder = root / path.lstrip("/")
        # A container sees its own group as the root, and may be told a path outside of it.
        for group in (folder, *folder.parents):
            if group.is_relative_to(root):
                yield from _cgroup_cpus(group)


def _cgroup_cpus(group: Path) -> Iterator[int]:
    """Yields the CPUs that one cgroup of either version allows, if it has a limit."""
    first = [_text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    for words in (_text(group / "cpu.max").split(), first):
        match words:
            case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
                yield max(1, math.ceil(int(quota) / int(period)))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
