"""Commands that are killed at random moments, that find the disk full, or that meet another.

A killed export leaves nothing or a whole artifact, beside temporary folders that the next one
removes; a killed run leaves whole lines, and continues with --resume.
"""

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from bench.record import read
from export.artifact import load_artifact, verify_digests
from export.errors import UserError
from tests.fuzz import sound
from tests.fuzz.tries import here
from tests.fuzz.watch import FORK, tree

TEMPORARY = re.compile(r"\.artifact\.(partial|replaced)-\d+")
SLACK = 1.1
"""Kills come up to so many times later than the command takes, so that some come too late."""
TO_THE_END_EVERY = 10
JOBS = 2


@dataclass(frozen=True)
class Victim:
    """A command to kill: its words, with names of sound inputs, and what is wrong afterwards."""

    words: str
    problem: Callable[[Path], str]
    finished: Callable[[Path], str]
    """What is wrong after the command has ended by itself."""
    continues: bool = False
    """Whether it does nothing where it has ended before."""


def _artifact_problem(out: Path) -> str:
    """What is wrong with a folder to which an export was killed, or ended."""
    names = {path.name for path in out.iterdir()}
    if strange := [name for name in names if name != "artifact" and not TEMPORARY.fullmatch(name)]:
        return f"{strange[0]} is left"
    if "artifact" not in names:
        return ""
    try:
        verify_digests(load_artifact(out / "artifact"))
    except UserError as error:
        return f"half an artifact: {error}"
    return ""


def _artifact_alone(out: Path) -> str:
    names = sorted(path.name for path in out.iterdir())
    return _artifact_problem(out) if names == ["artifact"] else f"the folder has {names}"


def _lines_problem(out: Path) -> str:
    """What is wrong with the records of a run that was killed."""
    path = out / "run.jsonl"
    if not path.exists():
        return ""
    if not path.read_bytes().endswith(b"\n") and path.stat().st_size:
        return "run.jsonl ends within a line"
    records, damages = read([path])
    cases = [repr(record.case) for record in records]
    return str(damages[0]) if damages else "" if len({*cases}) == len(cases) else "a job twice"


def _all_lines(out: Path) -> str:
    records = read([out / "run.jsonl"])[0] if (out / "run.jsonl").exists() else []
    names = {path.name for path in out.iterdir()}
    if len(records) != JOBS or names != {"run.jsonl"}:
        return f"{len(records)} records of {JOBS} jobs, {sorted(names)}"
    return _lines_problem(out)


EXPORT = "export {model} --target onnx --recipe int8 --no-verify --out {out}/artifact"
VICTIMS: Mapping[str, Victim] = {
    "export": Victim(EXPORT, _artifact_problem, _artifact_alone),
    "calibrate": Victim(
        f"{EXPORT.replace('int8', 'int4')} --calibrate {{questions}}/questions.jsonl",
        _artifact_problem,
        _artifact_alone,
    ),
    "run": Victim(
        "bench run {fake} --runtime fake --task latency --task easy-vqa --limit 9 --rounds 1 "
        "--repeats 1 --threads 1 --no-ceilings --resume -o {out}/run.jsonl",
        _lines_problem,
        _all_lines,
        continues=True,
    ),
}


@dataclass(frozen=True)
class Killed:
    """What was found by killing one command `kills` times; `late`: it had ended by then."""

    victim: str
    kills: int
    late: int
    problems: tuple[str, ...]


def killed(name: str, kills: int, seed: int, sound_root: Path, folder: Path) -> Killed:
    """Kills a command at `kills` random moments, in one output folder after the other."""
    victim, chosen = VICTIMS[name], random.Random(f"{seed} {name}")
    folder = placed(victim.words, sound_root, folder)
    words = filled(victim.words, folder)
    seconds, problems, late = _to_the_end(victim, words, folder), [], 0
    if isinstance(seconds, str):
        return Killed(name, 0, 0, (f"it does not end well: {seconds}",))
    for number in range(1, kills + 1):
        done = victim.continues and not victim.finished(folder / "out")
        if done or chosen.random() < 0.5:  # otherwise what is there is replaced, or continued
            _emptied(folder)
        child = started(words, folder)
        child.join(chosen.uniform(0, SLACK * seconds))
        late += child.exitcode is not None
        ended(child.pid or 0)
        child.join()
        problem: str | float = victim.problem(folder / "out")
        if not problem and number % TO_THE_END_EVERY == 0:
            problem = _to_the_end(victim, words, folder)
        if isinstance(problem, str) and problem:
            problems.append(f"kill {number}: {problem}")
            _emptied(folder)
    return Killed(name, kills, late, tuple(problems))


def placed(words: str, sound_root: Path, folder: Path) -> Path:
    """Puts the sound inputs that a command names into `folder`/in, and an empty `folder`/out."""
    for name in sound.SOUND:
        if f"{{{name}}}" in words:
            shutil.copytree(sorted((sound_root / name).iterdir())[-1], folder / "in" / name)
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True)
    return folder


def filled(words: str, folder: Path, out: Path | None = None) -> tuple[str, ...]:
    """The words of a command with its folders in them."""
    places = {name: str(folder / "in" / name) for name in sound.SOUND}
    values = {**places, "out": str(out or folder / "out")}
    return tuple(word.format_map(values) for word in words.split())


def started(
    words: tuple[str, ...], folder: Path, before: Callable[[], None] | None = None
) -> BaseProcess:
    """A fork that runs the command and exits with its code; `before` is called in it first."""

    def run() -> None:
        if before is not None:
            before()
        ending = here(words, folder)
        os._exit(1 if ending.raised or ending.code is None else ending.code)

    child = FORK.Process(target=run)
    child.start()
    return child


def ended(pid: int) -> None:
    """Kills a process alone, and waits until those that it started have ended with it."""
    others = tree(pid)[1:]
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(_runs(other) for other in others) and time.monotonic() < deadline:
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def _to_the_end(victim: Victim, words: tuple[str, ...], folder: Path) -> str | float:
    """Runs the command; returns the seconds it took, or what is wrong."""
    began = time.monotonic()
    child = started(words, folder)
    child.join()
    seconds = time.monotonic() - began
    # A run that has nothing left to do says so and ends well.
    if child.exitcode:
        return f"exit code {child.exitcode}: {(folder / 'shown').read_text()[-300:]}"
    return victim.finished(folder / "out") or seconds


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder / "out")
    (folder / "out").mkdir()


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[], None]]:
    """A file system of `size` bytes at the new `folder`; where none can be mounted, a limit.

    Yields what the process that writes calls first: it limits the size of its files where the
    folder has no limit of its own.
    """
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "pocket-vlm-small", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    limit = (size, resource.RLIM_INFINITY)
    try:
        yield (
            (lambda: None)
            if mounted
            else (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
        )
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


FULL: Mapping[str, tuple[str, str]] = {
    "export": (EXPORT, "artifact"),
    "calibrate": (VICTIMS["calibrate"].words, "artifact"),
    "run": (VICTIMS["run"].words, "run.jsonl"),
    "report": ("bench report {records}/run.jsonl -o {out}/REPORT.md", "REPORT.md"),
    "export-cost": (
        "bench export-cost -o {out}/costs.jsonl {model} --target onnx --recipe int4 --no-verify",
        "costs.jsonl",
    ),
}
"""name -> a command that writes to a folder, and what it makes there"""


def held(out: Path) -> dict[str, bytes]:
    """The files of a folder by their names, to see whether they are as they were."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
