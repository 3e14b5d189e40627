"""Runs one child process: sends it a line, reads its lines, and reports how it ended.

The parent sleeps until the child writes a line or ends; it wakes in between only to watch a memory
budget.
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
    """When the parent ends the child; None means never."""

    timeout_s: float | None = None
    watched_bytes: int | None = None
    grace_s: float = 0.0
    """Time between SIGTERM and SIGKILL, for the child to clean up."""


@dataclass(frozen=True)
class Ending:
    """How the child ended: its exit code (negative: the signal), or why it was stopped."""

    code: int
    answer: bytes
    """Its last line."""
    last_output: str
    """The last lines of its stderr."""
    stopped: str | None = None
    peak_bytes: int | None = None


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
    """Run the command to its end. `on_line` gets each line; if it returns True, a reply is sent.

    Whatever happens (Ctrl-C included), the child and its children are gone afterwards.
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
    """Lines of its stdout until it ends. Raises _Stop when a stop condition is met."""
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
    """Seconds until the next check; None: wait for a line. Raises _Stop at a stop condition."""
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
    """End the process and its children, and close our ends of the pipes."""
    if grace_s and process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(BrokenPipeError):
            pipe.close()


def _tail(stderr: IO[bytes]) -> str:
    stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - TAIL_BYTES))
    lines = [line.strip() for line in stderr.read().decode(errors="replace").splitlines()]
    last = [line for line in lines if line][-STDERR_LINES:]
    return f"last output: {' / '.join(last)}" if last else "no output"
