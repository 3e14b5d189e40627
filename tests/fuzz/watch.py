"""Workers that try inputs, and the parent that watches them.

A worker is a fork of this process, which has imported the libraries, and tries one input after
another. A worker that a signal ends, that takes too long or that takes too much memory is a finding
of its input, and another takes its place.
"""

import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.fuzz import tries, verdicts
from tests.fuzz.kinds import Input, Made, make_input
from tests.fuzz.verdicts import MEMORY_BYTES, SECONDS, VERDICTS, Ending

FORK = multiprocessing.get_context("fork")
TRIES = 300
"""Inputs of one worker; then another takes its place, so that what libraries keep does not add
up."""
POLL_S = 0.1
GRACE_S = 20.0
"""A process ends itself later than the command's own limit, because it also makes the input."""
PRELOADED = (
    *("onnx", "onnx_ir", "onnxruntime", "tokenizers", "gguf", "torch", "transformers"),
    *("llama_cpp", "matplotlib.pyplot", "scipy.stats", "datasets", "sklearn", "PIL.Image"),
)


@dataclass(frozen=True)
class Tried:
    """An input, what was broken in it, the command, and how that ended. `finding` "": well."""

    input: Input
    said: str
    words: tuple[str, ...]
    verdict: str
    finding: str
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Campaign:
    """What every worker knows: the seed, the folder of sound inputs, and one for what it makes."""

    seed: int
    sound: Path
    scratch: Path
    kept: Path
    """Findings are kept here, each in a folder with its input's name."""
    cache: Path
    """Caches, which all inputs share; HF_HOME, MPLCONFIGDIR and XDG_CACHE_HOME are in it."""
    limit_s: float = SECONDS


def preload() -> None:
    """Imports what commands import late, so that workers are forked with it."""
    for name in PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)


def tried(campaign: Campaign, inputs: Sequence[Input], workers: int) -> Iterator[Tried]:
    """Tries all inputs and yields each when it has ended, in no order."""
    waiting = list(reversed(inputs))
    running: list[_Worker] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_Worker(campaign, waiting.pop()))
            ready = wait([worker.pipe for worker in running], POLL_S)
            for worker in list(running):
                found = worker.result() if worker.pipe in ready else worker.overdue()
                if found is None:
                    continue
                yield found
                if worker.alive and waiting and worker.tries < TRIES:
                    worker.give(waiting.pop())
                else:
                    worker.end()
                    running.remove(worker)
    finally:
        for worker in running:
            worker.end()


class _Worker:
    """The parent's side of one worker."""

    def __init__(self, campaign: Campaign, first: Input) -> None:
        self._campaign = campaign
        self.pipe, theirs = FORK.Pipe()
        self._process: BaseProcess = FORK.Process(target=_work, args=(campaign, theirs, self.pipe))
        self._process.start()
        theirs.close()
        self.alive, self.tries, self._peak = True, 0, 0
        self.give(first)

    def give(self, one: Input) -> None:
        self._input, self._started, self._peak = one, time.monotonic(), 0
        self._base = tries.memory_bytes(self._process.pid or 0, "VmRSS")
        self.tries += 1
        self.pipe.send(one)

    def result(self) -> Tried | None:
        """What the worker sent; if it ended instead, that as a finding."""
        try:
            found = self.pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode or 0
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return self._ended(f"ended by {name}")
        assert isinstance(found, Tried)
        return found

    def overdue(self) -> Tried | None:
        """A finding if the input takes too long or too much memory; the worker is then killed."""
        seconds = time.monotonic() - self._started
        pid = self._process.pid or 0
        grown = sum(tries.memory_bytes(one, "VmRSS") for one in tree(pid)) - self._base
        self._peak = max(self._peak, grown)
        if seconds > self._campaign.limit_s + GRACE_S:
            return self._ended(f"hangs: over {self._campaign.limit_s:.0f} s")
        if grown > 2 * MEMORY_BYTES:
            return self._ended(f"{grown / 1e6:.0f} MB of memory")
        return None

    def end(self) -> None:
        for pid in reversed(tree(self._process.pid or 0)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.join()
        self.pipe.close()
        self.alive = False

    def _ended(self, why: str) -> Tried:
        self.end()
        one, seconds = self._input, time.monotonic() - self._started
        folder = _folder(self._campaign, one)
        said, words = "", ()
        with suppress(OSError, ValueError):
            said, *words = (folder / "command").read_text().split("\n")
        keep(self._campaign, one, why)
        return Tried(one, said, tuple(words), "finding", why, seconds, self._peak)


def tree(pid: int) -> list[int]:
    """The process and those that it started, parents first."""
    found = [pid]
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


def _folder(campaign: Campaign, one: Input) -> Path:
    return campaign.scratch / str(one).replace("/", "-").replace(" ", "-")


def keep(campaign: Campaign, one: Input, finding: str) -> None:
    """Moves a finding's folder to where findings are kept."""
    folder = _folder(campaign, one)
    (folder / "finding").write_text(f"{finding}\n")
    kept = campaign.kept / folder.name
    shutil.rmtree(kept, ignore_errors=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder, kept)


def _work(campaign: Campaign, pipe: Connection, parents: Connection) -> None:
    """The worker's side: tries what the pipe names until it is closed."""
    parents.close()
    sys.dont_write_bytecode = True
    confinement = tries.Confinement(str(campaign.cache))
    sys.addaudithook(confinement)
    while True:
        try:
            one = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)
        pipe.send(_tried(campaign, one, confinement))


def _tried(campaign: Campaign, one: Input, confinement: tries.Confinement) -> Tried:
    folder = _folder(campaign, one)
    shutil.rmtree(folder, ignore_errors=True)
    made = make_input(one, campaign.seed, campaign.sound, folder)
    (folder / "scratch").mkdir()
    (folder / "command").write_text("\n".join([made.said, *made.words]), errors="surrogateescape")
    if one.as_process:
        ending = tries.as_process(made.words, folder)
    else:
        ending = tries.here(made.words, folder, confinement)
    return _judged(campaign, one, made, ending)


def _judged(campaign: Campaign, one: Input, made: Made, ending: Ending) -> Tried:
    folder = _folder(campaign, one)
    finding = verdicts.finding(made, ending, folder / "out", campaign.limit_s)
    verdict = "finding" if finding else VERDICTS[ending.code or 0]
    if finding:
        keep(campaign, one, finding)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    words = tuple(word.replace(f"{folder}/", "") for word in made.words)
    return Tried(one, made.said, words, verdict, finding, ending.seconds, ending.peak_bytes)
