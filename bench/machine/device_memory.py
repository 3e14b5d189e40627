"""Reads how much GPU memory this process uses, as far as the driver reports it."""

from collections.abc import Callable
from typing import Literal

from runtimes.nvidia import GpuMemory

MemorySource = Literal["process", "card"]


class DeviceMemory:
    """Reads how many bytes of one GPU this process uses. Create it before the process uses the GPU.

    `read` returns the GPU's memory at the moment. If the driver lists this process, its figure is
    taken (source "process"). If not, or under another id as in a container, it is the growth of the
    GPU's used memory since this object was created (source "card"). If other processes use the GPU,
    that is not known.
    """

    def __init__(self, read: Callable[[], GpuMemory | None]) -> None:
        self._read = read
        self._before = read()

    def now(self) -> tuple[int | None, MemorySource | None]:
        """Return the bytes used now, and their source; (None, None) if not known."""
        found, before = self._read(), self._before
        if found is None:
            return None, None
        if found.own_bytes is not None:
            return found.own_bytes, "process"
        if before is None or before.others or found.others > 1:
            return None, None
        return max(0, found.used_bytes - before.used_bytes), "card"
