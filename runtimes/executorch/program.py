"""Loads a .pte file into ExecuTorch's runtime and executes its methods on numpy arrays."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.errors import UserError
from export.executorch.library import portable
from export.files import short
from export.library_log import kept
from runtimes.executorch.header import expect_program

Array = NDArray[Any]


def use_threads(threads: int) -> None:
    """Sets how many threads run the programs of this process.

    Attention multiplies matrices with torch's library, whose threads are others than ExecuTorch's.
    With one thread of these and two of those, a prefill of 128 positions took five times longer.
    """
    with kept():
        portable._unsafe_reset_threadpool(threads)
    torch.set_num_threads(threads)


class Program:
    """A loaded .pte file, whose methods share the memory of intermediate values."""

    def __init__(self, path: Path) -> None:
        """Raises UserError for a file that is no program of ExecuTorch's."""
        expect_program(path)
        self._path = path
        self._program = self._answer(lambda: portable._load_program(str(path)))
        self._methods: dict[str, Any] = {}

    def load(self, *names: str) -> None:
        """Loads methods, so that the first `run` need not. Raises UserError."""
        for name in names:
            self._methods[name] = self._answer(partial(self._program.load_method, name))

    def run(self, name: str, *inputs: Array) -> list[Array]:
        """Executes a method and returns its outputs. Raises UserError.

        Only `inputs` that are contiguous are used without a copy.
        """
        if name not in self._methods:
            self.load(name)
        tensors = [torch.from_numpy(np.ascontiguousarray(values)) for values in inputs]
        try:
            outputs = self._methods[name](tensors)
        except RuntimeError as error:
            raise UserError(
                f"{self._path}: executorch cannot run its method {name} ({_line(error)}); export "
                f"it again"
            ) from error
        return [output.numpy() for output in outputs]

    def close(self) -> None:
        """Frees the methods and the file."""
        self._methods.clear()
        self._program = None

    def _answer(self, ask: Callable[[], Any]) -> Any:
        try:
            with kept() as log:
                return ask()
        except RuntimeError as error:
            raise UserError(f"{self._path}: {_why(error, log.lines)}") from error


def _why(error: RuntimeError, log: tuple[str, ...]) -> str:
    """Returns why a method cannot be loaded, and what to do. The error itself has only a number."""
    missing = re.compile(r"Missing operator: \[\d+\] (\S+)")
    if absent := sorted({found[1] for line in log if (found := missing.search(line))}):
        return (
            f"this build of executorch has no operators {', '.join(absent)}; install the version "
            f"that artifact.json names, or export it again with this one"
        )
    reason = re.sub(r"^\[[^]]*\] ", "", log[-1]) if log else str(error)
    return f"executorch cannot load it ({short(reason, 200)}); export it again"


def _line(error: Exception) -> str:
    return short(" ".join(str(error).split()), 200)
