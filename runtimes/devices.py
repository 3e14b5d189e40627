"""Devices by name (cpu, cuda, cuda:1), and the kinds of machines that runtimes exist on."""

import os
import re
from dataclasses import dataclass
from typing import Literal

from export.errors import UserError

DeviceKind = Literal["cpu", "cuda"]
MachineKind = Literal["phone", "board", "computer"]
"""board: a single-board computer; computer: a laptop, desktop or server."""


@dataclass(frozen=True)
class Device:
    """Where a session computes; `index` counts the GPUs that CUDA lists, from 0."""

    kind: DeviceKind = "cpu"
    index: int = 0


CPU = Device()


def device_of(name: str) -> Device:
    """Parse a device's name. Raises UserError for anything but cpu, cuda and cuda:N."""
    match = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", name)
    if match is None:
        raise UserError(f"device '{name}': there is cpu, cuda, or cuda:N for the GPU number N")
    return CPU if name == "cpu" else Device("cuda", int(match[1] or 0))


def usable_cpus() -> int:
    """Logical CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
