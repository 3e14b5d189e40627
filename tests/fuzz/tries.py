"""Runs one input: by the command's own main in this process, or as a real process.

What a command prints goes to a file, its temporary files to a folder of its own; what it opens for
writing elsewhere, but for the caches that all inputs share, is noted.
"""

import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.verdicts import Ending

ROOT = Path(__file__).parents[2]
OUR_PACKAGES = tuple(f"{ROOT / name}/" for name in ("export", "runtimes", "bench"))
HARMLESS = ("/dev/null", "/dev/tty", "/proc/self/")
WRITES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.link", "os.truncate"}
PAIRS = {"os.rename", "os.symlink", "os.link"}
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.sendto"}
OURS = {"in", "out", "scratch", "command", "shown", "printed"}
"""What a try's folder has; the command may fill out and scratch."""
CONTINUED = {"records/run.jsonl", "costs/exports.jsonl", "costs/EXPORTS.md"}
"""Inputs that a command continues: `bench run --resume`, `bench export-cost`."""
POLL_S = 0.05


@dataclass
class Confinement:
    """Notes what this process writes outside `folder` and `cache`, and hosts that it asks for.

    Python's audit hooks cannot be removed, so one belongs to a process that only tries inputs.
    """

    cache: str
    folder: str = ""
    """"": nothing is noted."""
    noted: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder:
            return
        if event in NETWORK:
            self.noted.append(f"{event} {str(arguments[1:])[:80]}")
        elif event in WRITES or (event == "open" and _writes(arguments)):
            for path in arguments[: 2 if event in PAIRS else 1]:
                self._note(event, path)

    def _note(self, event: str, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # an open file
        real = os.path.abspath(os.fsdecode(path))
        if not real.startswith((self.folder, self.cache, *HARMLESS)) and os.path.isabs(
            os.fsdecode(path)
        ):
            self.noted.append(f"{event} of {real[:200]}")


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def settings(folder: Path) -> dict[str, str]:
    """Environment variables that keep a command's temporary files in `folder`.

    XDG_CACHE_HOME stays: a process remembers the file of digests there from its first command on.
    """
    return {name: str(folder / "scratch") for name in ("TMPDIR", "HOME")}


def here(words: tuple[str, ...], folder: Path, confinement: Confinement | None = None) -> Ending:
    """Calls the main of the command in this process; writes what it prints to `folder`/shown."""
    from bench.cli import main as bench
    from export.__main__ import main as export

    confinement = confinement or Confinement("")  # no hook: it notes nothing
    before, started = sorted(_places(folder)), time.monotonic()
    code, raised = None, ""
    base = memory_bytes(os.getpid(), "VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    with _printing_to(folder / "shown"), _at_home(folder):
        confinement.noted, confinement.folder = [], str(folder)
        try:
            code = export(list(words[1:])) if words[0] == "export" else bench(list(words[1:]))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException as error:
            raised = _where(error)
            traceback.print_exc()
        finally:
            confinement.folder = ""
    peak = memory_bytes(os.getpid(), "VmHWM") - base
    outside = tuple(dict.fromkeys(confinement.noted + _changed(before, folder)))
    return Ending(code, raised, _shown(folder), outside, time.monotonic() - started, peak)


def as_process(words: tuple[str, ...], folder: Path) -> Ending:
    """Runs the command as a user does; writes what it prints to `folder`/shown."""
    before, started, peak = sorted(_places(folder)), time.monotonic(), 0
    ours = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with (folder / "shown").open("wb") as shown:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", *words],
            cwd=folder / "out",
            env=os.environ | settings(folder) | ours,
            stdin=subprocess.DEVNULL,
            stdout=(folder / "printed").open("wb"),
            stderr=shown,
        )
        while process.poll() is None:
            peak = max(peak, memory_bytes(process.pid, "VmHWM"))
            time.sleep(POLL_S)
    raised = f"signal {-process.returncode}" if process.returncode < 0 else ""
    seconds = time.monotonic() - started
    outside = tuple(_changed(before, folder))
    return Ending(process.returncode, raised, _shown(folder), outside, seconds, peak)


def memory_bytes(pid: int, name: str) -> int:
    """A figure of /proc/PID/status, such as VmRSS, in bytes; 0 if the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith(f"{name}:")]
    return 1024 * int(found[0]) if found else 0


def _where(error: BaseException) -> str:
    """The exception's type, and the last place in our packages that it went through."""
    ours = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(OUR_PACKAGES)
    ]
    at = f" in {Path(ours[-1].filename).relative_to(ROOT)}:{ours[-1].name}" if ours else ""
    return f"{type(error).__name__}{at}: {' '.join(str(error).split())[:150]}"


@contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Sends what this process prints on stderr to the file, natively printed text included."""
    kept = [os.dup(1), os.dup(2)]
    with path.open("wb") as shown, path.with_name("printed").open("wb") as printed:
        os.dup2(printed.fileno(), 1)
        os.dup2(shown.fileno(), 2)
        before = sys.stdout, sys.stderr
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 # closed below
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
        try:
            yield
        finally:
            for number, stream in ((1, sys.stdout), (2, sys.stderr)):
                stream.close()
                os.dup2(kept[number - 1], number)
                os.close(kept[number - 1])
            sys.stdout, sys.stderr = before


@contextmanager
def _at_home(folder: Path) -> Iterator[None]:
    os.environ.update(settings(folder))
    tempfile.tempdir = None
    (folder / "scratch").mkdir(exist_ok=True)
    os.chdir(folder / "out")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            yield
    finally:
        os.chdir("/")


def _places(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Every file that the command must leave alone, with its size and time."""
    for path in (folder / "in").rglob("*"):
        facts, is_folder = path.lstat(), path.is_dir() and not path.is_symlink()
        name = str(path.relative_to(folder))
        yield (name, 0, 0) if is_folder else (name, facts.st_size, facts.st_mtime_ns)


def _changed(before: list[tuple[str, int, int]], folder: Path) -> list[str]:
    names = {name for name, *_ in set(before) ^ set(_places(folder))}
    names |= {path.name for path in folder.iterdir()} - OURS
    left = [name for name in sorted(names) if name.removeprefix("in/") not in CONTINUED]
    return [f"{name} was changed" for name in left]


def _shown(folder: Path) -> str:
    return (folder / "shown").read_bytes().decode("utf-8", "replace")
