"""The GPU memory of this process, as far as the driver reports it."""

from collections.abc import Callable
from typing import Literal

from runtimes.nvidia import GpuMemory

MemorySource = Literal["process", "card"]


class DeviceMemory:
    """Reads one card's memory, relative to its state before the process used it.

    The source is "process" if the driver lists this process. If it does not, or under another id as
    in a container, the growth of an otherwise idle card since the start is taken ("card"). With
    other processes on the card the figure is not known.
    """

    def __init__(self, read: Callable[[], GpuMemory | None]) -> None:
        self._read = read
        self._before = read()

    def now(self) -> tuple[int | None, MemorySource | None]:
        """Bytes and their source; None, None if not known."""
        found, before = self._read(), self._before
        if found is None:
            return None, None
        if found.own_bytes is not None:
            return found.own_bytes, "process"
        if before is None or before.others or found.others > 1:
            return None, None
        return max(0, found.used_bytes - before.used_bytes), "card"
