"""Runs a command line on the console or pipe that it is given.

Its output may have another encoding than UTF-8, and its reader may leave before the end.
"""

import errno
import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from export.errors import DISK_FULL
from export.files import short

if TYPE_CHECKING:
    from rich.console import Console

CLOSED_PIPE = 128 + signal.SIGPIPE
"""Exit code of a command whose reader left, as shells show it for programs that SIGPIPE ends."""

TELEMETRY = "ORT_DISABLE_TELEMETRY"
"""1 keeps ONNX Runtime's wheels (1.29 and newer) from queueing usage events for their maker."""


def on_console(command: Callable[[], int]) -> int:
    """Runs a command line and returns its exit code; CLOSED_PIPE if the reader of its output left.

    Letters that the console's encoding lacks are printed as "?". A full disk under its output, and
    a name too long for a file, are an error of one line, with exit code 2. Output that does not
    exist (`>&-`) is discarded. ONNX Runtime queues no usage events unless the environment asks for
    it. Only for the `main` of a command: it changes this process's stdout, stderr and environment.
    """
    os.environ.setdefault(TELEMETRY, "1")
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if not (pillow := logging.getLogger("PIL")).handlers:
        pillow.addHandler(logging.NullHandler())  # it logs what it then raises
    # torchao, which transformers imports where it is installed, has classes that torch warns about.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    except BrokenPipeError:
        _discard_rest(sys.stdout, sys.stderr)
        return CLOSED_PIPE
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            name = short(str(error.filename))
            sys.stderr.write(
                f"error: {one_line(name)}: is too long for a file's name; shorten it\n"
            )
            return 2
        if error.errno not in DISK_FULL:
            raise
        _discard_rest(sys.stdout)
        sys.stderr.write(f"error: the output cannot be written ({error.strerror})\n")
        return 2


def one_line(text: str, longest: int = 1000) -> str:
    """Returns `text` with unprintable characters as spaces, cut after `longest` characters.

    Error messages quote names from untrusted files.
    """
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= longest else f"{line[:longest]}…"


def rich_console(*, stderr: bool = False) -> "Console":
    """Returns rich's console on stdout or stderr, for use below `on_console`.

    Rich itself would end the process with exit code 1 when the reader of its output leaves.
    """
    from rich.console import Console

    class Ours(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Ours(stderr=stderr)


def _nowhere() -> io.TextIOWrapper:
    return open(os.devnull, "w", encoding="utf-8")


def _discard_rest(*streams: TextIO) -> None:
    """Sends what is still buffered nowhere; else Python's last flush would print a traceback."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
