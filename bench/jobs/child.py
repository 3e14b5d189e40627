"""Runs one child process: sends it a line, reads the lines it prints, and returns how it ended.

The parent sleeps until the child prints a line, ends or times out; it wakes in between only if it
has to watch the child's memory.
"""

import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from bench.jobs.limits import WATCH_S, highest_bytes, resident_bytes

STDERR_LINES = 5
TAIL_BYTES = 16384
CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class StopConditions:
    """When the parent ends the child process.

    `timeout_s`: after so many seconds; None: never. `watched_bytes`: as soon as its resident set is
    seen to be larger; None: its memory is not watched.
    """

    timeout_s: float | None = None
    watched_bytes: int | None = None
    grace_s: float = 0.0
    """Seconds between SIGTERM and SIGKILL, for the child to clean up; 0: SIGKILL at once."""


@dataclass(frozen=True)
class Ending:
    """How a child process ended, and what it printed last.

    `code` is its exit code, or the negative number of the signal that killed it. `stopped` is the
    reason why the parent ended it; None: it ended by itself.
    """

    code: int
    answer: bytes
    """The last line of its stdout; b"" if it printed none."""
    last_output: str
    """The last lines of its stderr, as a phrase for an error message."""
    stopped: str | None = None
    peak_bytes: int | None = None
    """Its peak memory if it was stopped because of its memory; otherwise None."""


class _Stop(Exception):
    def __init__(self, reason: str, peak_bytes: int | None = None) -> None:
        super().__init__(reason)
        self.peak_bytes = peak_bytes


def run_child(
    command: Sequence[str],
    question: bytes,
    variables: Mapping[str, str],
    stop: StopConditions,
    on_line: Callable[[bytes], bool],
) -> Ending:
    """Run a command in a child process until it ends or a stop condition is met.

    The child gets `question` and a line feed on stdin, and `variables` as its whole environment.
    `on_line` is called with each line of its stdout; if it returns True, the child is sent an empty
    line. Whatever happens (Ctrl-C included), the child and its children are gone afterwards.
    """
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=variables,
            start_new_session=True,
        )
        answer, stopped, peak = b"", None, None
        try:
            _send(process, question)
            for line in _lines(process, stop):
                answer = line
                if on_line(line):
                    _send(process, b"")
            process.wait()
        except _Stop as reached:
            stopped, peak = str(reached), reached.peak_bytes
        finally:
            _end(process, stop.grace_s)
        return Ending(process.returncode, answer, _tail(stderr), stopped, peak)


def _lines(process: subprocess.Popen[bytes], stop: StopConditions) -> Iterator[bytes]:
    """Yield the lines of the child's stdout until it ends. Raises _Stop at a stop condition."""
    assert process.stdout is not None
    start, rest = time.monotonic(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(_sleep_s(process, stop, time.monotonic() - start)):
                continue
            chunk = os.read(process.stdout.fileno(), CHUNK_BYTES)
            if not chunk:
                break
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
    if rest:
        yield rest


def _sleep_s(
    process: subprocess.Popen[bytes], stop: StopConditions, passed_s: float
) -> float | None:
    """Return how long to wait for a line before checking again; None: without limit.

    `passed_s` are the seconds since the start. Raises _Stop if a stop condition is met.
    """
    if stop.timeout_s is not None and passed_s >= stop.timeout_s:
        raise _Stop(f"stopped after {stop.timeout_s:g} s (--timeout)")
    left_s = None if stop.timeout_s is None else stop.timeout_s - passed_s
    if stop.watched_bytes is None:
        return left_s
    held = resident_bytes(process.pid)
    if held is not None and held > stop.watched_bytes:
        peak = highest_bytes(process.pid) or held
        raise _Stop("stopped by the memory watchdog", peak)
    return WATCH_S if left_s is None else min(left_s, WATCH_S)


def _send(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended, so its exit code is reported
        process.stdin.write(line + b"\n")
        process.stdin.flush()


def _end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """End the child and its own children, and close our ends of its pipes."""
    if grace_s and process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    kill = _killer(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kill()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(BrokenPipeError):
            pipe.close()


def _killer(process: int) -> Callable[[], None]:
    """Return a function that ends all that a process has started by now, and what these have.

    Some leave the process's group, as Chromium does.
    """
    import psutil

    below: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(process).children(recursive=True)

    def kill() -> None:
        for found in below:
            with suppress(psutil.NoSuchProcess):
                found.kill()

    return kill


def _tail(stderr: IO[bytes]) -> str:
    stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - TAIL_BYTES))
    lines = [line.strip() for line in stderr.read().decode(errors="replace").splitlines()]
    last = [line for line in lines if line][-STDERR_LINES:]
    return f"last output: {' / '.join(last)}" if last else "no output"
