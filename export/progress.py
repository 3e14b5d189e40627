"""Shows the progress of an export on a terminal, and records the peak memory of its stages."""

import math
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from export.arrays import FloatArray
from export.console import rich_console
from export.model import Model
from export.weights import Weights, Wrapper

STATUS = Path("/proc/self/status")
WORDS: Mapping[str, str] = {"write": "writing", "prove": "proving"}


class Stages:
    """Records this process's peak memory whenever it is called with the name of a stage."""

    def __init__(self) -> None:
        self._peaks: dict[str, int] = {}

    def __call__(self, name: str) -> None:
        self._peaks[name] = peak_bytes()

    def writing_peak_bytes(self) -> int:
        """Returns the peak memory in bytes up to the start of the proof; without one, up to now."""
        return self._peaks.get("prove", peak_bytes())


class Watched(Wrapper):
    """Weights that call `advance` with the number of values after each read."""

    def __init__(self, weights: Weights, advance: Callable[[int], None]) -> None:
        super().__init__(weights)
        self._advance = advance

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        """Returns rows [start, stop) of a tensor as float32, and reports how many values."""
        values = self.weights.read(name, start, stop)
        self._advance(values.size)
        return values


@contextmanager
def showing(model: Model, stages: Stages) -> Iterator[tuple[Model, Callable[[str], None]]]:
    """Shows a progress bar on stderr during the block; shows nothing if that is no terminal.

    Yields the model to export, whose reads move the bar, and the function to call with "write" and
    "prove" as these stages begin; it calls `stages`, too.
    """
    if not sys.stderr.isatty():
        yield model, stages
        return
    from rich.progress import Progress

    total = sum(math.prod(shape) for shape in model.weights.shapes().values())
    with Progress(console=rich_console(stderr=True), transient=True) as bar:
        task = bar.add_task(model.name, total=total)

        def stage(name: str) -> None:
            stages(name)
            words = f"{model.name}: {WORDS.get(name, name)}"
            bar.update(task, description=words, total=total if name == "write" else None)

        weights = Watched(model.weights, lambda values: bar.advance(task, values))
        yield replace(model, weights=weights), stage


def peak_bytes() -> int:
    """Returns this process's peak resident memory in bytes (VmHWM, or else getrusage)."""
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
