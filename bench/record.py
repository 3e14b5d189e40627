"""Records: one measured (or failed, or skipped) job each, as a line of JSON.

NOT aware of how anything is measured or shown.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from bench.machine.environment import Environment, Load
from bench.machine.memory import PhaseMemory
from bench.measure import Timing
from bench.options import Options
from export.decode import Mismatch, decode
from export.errors import UserError
from export.files import parse_json
from runtimes.nvidia import GpuState
from runtimes.proof.fidelity import Features, Fidelity

SCHEMA = 1


@dataclass(frozen=True)
class Subject:
    """What is measured: an artifact, or a checkpoint (then target, recipe and sha256 are None)."""

    model: str
    synthetic: bool
    target: str | None
    recipe: str | None
    layout: str | None
    sha256: str | None
    """Of artifact.json, which holds the sha256 of every other file."""
    disk_bytes: int | None
    origin: Mapping[str, Any]
    quantization: Mapping[str, Any] | None
    proof: Mapping[str, Any] | None


@dataclass(frozen=True)
class Case:
    """One job's place in the plan."""

    subject: Subject
    runtime: str
    device: str
    threads: int
    task: str
    options: Options
    round: int
    profile: str | None = None
    """Device profile it was held to, a name of PROFILES."""


@dataclass(frozen=True)
class Item:
    """One question's score: `score` between 0 and 1 where the task's scores are graded."""

    id: str
    answer: str
    correct: bool
    score: float | None = None
    part: str = ""
    gold: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        return float(self.correct) if self.score is None else self.score


@dataclass(frozen=True)
class BadItem:
    """A question that could not be asked or scored; `reason` names file, row and column."""

    id: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """How a task was put and scored. `asked` items took `asked_s`; others were resumed."""

    prompt: str
    max_tokens: int
    scorer: str
    scorer_version: int
    source: str
    asked: int
    asked_s: float
    bad: tuple[BadItem, ...] = ()


@dataclass(frozen=True)
class Agreement:
    """How far the subject's answers are from a reference's, token by token.

    Perplexities are of the reference's own answers. `vision` is the reference's decoder given the
    subject's image features, `decoder` the subject's decoder given the reference's: each has one
    half alone of what was changed.
    """

    reference: str
    items: int
    equal_answers: int
    fidelity: Fidelity | None
    token_kld: tuple[float, ...]
    perplexity: float | None = None
    reference_perplexity: float | None = None
    first_differences: tuple[int | None, ...] = ()
    """Of each answer the first token, from 0, that the subject would not choose."""
    features: Features | None = None
    vision: Fidelity | None = None
    decoder: Fidelity | None = None
    source: str = ""
    """Where the prompts come from."""
    bad: tuple[BadItem, ...] = ()
    """Questions that could not be asked."""


@dataclass(frozen=True)
class Work:
    """What the network must do, whatever runs it: the other half of a roofline.

    Decoding is one token at the middle of the answer: its operations, and the bytes that have to
    be read for it (the decoder's weights as the artifact keeps them, keys and values).
    """

    image_flops: int | None
    prefill_flops: int | None
    decode_flops: int | None
    decode_bytes: int | None


@dataclass(frozen=True)
class Outcome:
    """What a job found. Empty tuples and None: not part of its task."""

    load_s: float | None = None
    warmups: tuple[Timing, ...] = ()
    timings: tuple[Timing, ...] = ()
    memory: tuple[PhaseMemory, ...] = ()
    items: tuple[Item, ...] = ()
    evaluation: Evaluation | None = None
    agreement: Agreement | None = None
    cold_load_s: float | None = None
    """The process's first loading, of files that were not in memory; None where the system keeps
    them there. `load_s` is loading again, with the files in memory and the libraries set up (of
    tasks that time nothing else: the first loading as it came)."""
    work: Work | None = None
    cpus: tuple[int, ...] | None = None
    """Logical CPUs the process was pinned to."""
    budget_bytes: int | None = None
    """Of the device profile; `fits` says whether every phase stayed within it."""
    fits: bool | None = None
    held_by: Literal["cgroup", "watchdog"] | None = None
    """What would have stopped it at the budget: the kernel, or the parent, which looks ten times a
    second. None without a budget, and on a GPU, where the verdict comes afterwards."""
    gpu_before: GpuState | None = None
    """Of the job's GPU before anything was loaded, and `gpu_after` right behind the last answer."""
    gpu_after: GpuState | None = None


@dataclass(frozen=True)
class Record:
    """A line of a run. `reason` says why it failed or was skipped."""

    schema: int
    case: Case
    status: Literal["ok", "failed", "skipped"]
    reason: str | None
    started_at: str
    """UTC, ISO 8601."""
    wall_s: float | None
    before: Load
    after: Load
    environment: Environment
    outcome: Outcome
    cpu_s: float | None = None
    """CPU time of the job's process, of user and system."""
    noise: tuple[str, ...] = ()
    """What disturbed the measurement, a sentence each (bench/analysis/noise.py)."""


@dataclass(frozen=True)
class Damage:
    """A line that is not a record."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: not a record, skipped: {self.reason}"


def append(path: Path, record: Record) -> None:
    """Add one line, on the disk when this returns. Raises UserError where it cannot be written.

    What is there stays as it is: a line that did not fit is taken back, and one that was cut off
    (by a power failure, say) gets an end of its own.
    """
    line = json.dumps(asdict(record), allow_nan=False) + "\n"
    try:
        with path.open("ab+", buffering=0) as file:
            _append(file, line.encode())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); its records so far are whole: make "
            f"room and continue by --resume -o {path}"
        ) from None


def _append(file: IO[bytes], line: bytes) -> None:
    size = file.seek(0, os.SEEK_END)
    if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
        line = b"\n" + line
    try:
        while line:
            line = line[file.write(line) :]
        os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            file.truncate(size)
        raise


def read(paths: Iterable[Path]) -> tuple[list[Record], list[Damage]]:
    """The records of some runs, in order, beside the lines that are none. Raises UserError.

    A record that two files have, or one file has twice, is one record.
    """
    records: list[Record] = []
    seen: set[bytes] = set()
    damages: list[Damage] = []
    for path in paths:
        for number, line in enumerate(_lines(path), start=1):
            if not line.strip() or line in seen:
                continue
            try:
                records.append(parse(line))
                seen.add(line)
            except (ValueError, UserError) as error:
                damages.append(Damage(path.name, number, str(error)))
    return records, damages


def parse(line: bytes) -> Record:
    """One line. Raises UserError or ValueError saying what is wrong with it."""
    value = parse_json(line, "the line")
    schema = value.get("schema")
    if type(schema) is int and schema > SCHEMA:
        raise Mismatch(f"has schema {schema}, this is for {SCHEMA}; update PocketVLM")
    if schema != SCHEMA:
        raise Mismatch(f"schema {schema!r}, expected {SCHEMA}")
    return decode(Record, value)


def _lines(path: Path) -> list[bytes]:
    """Ended by line feeds alone: an answer may hold any other character that ends a line."""
    try:
        return path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; `bench run -o {path}` writes one") from None
