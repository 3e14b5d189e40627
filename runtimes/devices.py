"""Parses names of devices (cpu, cuda, cuda:1) and lists the kinds of machines."""

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


def usable_cpus() -> int:
    """Returns the number of logical CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
