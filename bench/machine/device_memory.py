"""What of a GPU's memory belongs to this process, as well as its driver tells.

NOT aware of NVML or of what a phase does.
"""

from collections.abc import Callable
from typing import Literal

from runtimes.nvidia import GpuMemory

Source = Literal["process", "card"]


class DeviceMemory:
    """Readings of one card since it was as it was before the process used it.

    The driver's own figure for the process comes first ("process"). Where it does not list it, or
    by another number as in a container, what a card that was idle at the start has given away since
    is this process's too ("card"). With others on it, nothing is known.
    """

    def __init__(self, read: Callable[[], GpuMemory | None]) -> None:
        self._read = read
        self._before = read()

    def now(self) -> tuple[int | None, Source | None]:
        """Bytes, and whose figure that is."""
        found, before = self._read(), self._before
        if found is None:
            return None, None
        if found.own_bytes is not None:
            return found.own_bytes, "process"
        if before is None or before.others or found.others > 1:
            return None, None
        return max(0, found.used_bytes - before.used_bytes), "card"
