"""Devices by name: cpu, cuda, cuda:1. NOT aware of runtimes or of what a device can do."""

import os
import re
from dataclasses import dataclass
from typing import Literal

from export.errors import UserError

Kind = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Device:
    """Where a session computes; `index` counts the GPUs that CUDA shows, from 0."""

    kind: Kind = "cpu"
    index: int = 0


CPU = Device()


def device_of(name: str) -> Device:
    """The device of a name. Raises UserError for what is none."""
    found = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", name)
    if found is None:
        raise UserError(f"device '{name}': there is cpu, cuda, or cuda:N for the GPU number N")
    return CPU if name == "cpu" else Device("cuda", int(found[1] or 0))


def usable_cpus() -> int:
    """Logical CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
