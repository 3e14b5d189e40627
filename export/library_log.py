"""Keeps what the C++ code of a library writes to the terminal, such as a line for each file."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


class Kept:
    """The lines that were written while `kept` ran."""

    def __init__(self) -> None:
        self.lines: tuple[str, ...] = ()


@contextmanager
def kept(*handles: int) -> Iterator[Kept]:
    """Context manager: keeps what the process writes to its standard error from the terminal.

    `handles`: the file descriptors, 1 for standard output and 2, the default, for standard error.
    It yields an object that has the lines afterwards, also after an exception. It is for libraries
    that have no other way to reach their log from Python.
    """
    found = Kept()
    handles = handles or (2,)
    _flush()
    with tempfile.TemporaryFile() as file:
        before = [(handle, os.dup(handle)) for handle in handles]
        for handle in handles:
            os.dup2(file.fileno(), handle)
        try:
            yield found
        finally:
            _flush()
            for handle, copy in before:
                os.dup2(copy, handle)
                os.close(copy)
            file.seek(0)
            found.lines = tuple(file.read().decode(errors="replace").splitlines())


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
