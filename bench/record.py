"""Records: one measured, failed or skipped job each, as a line of JSON.

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
from export.files import parse_json, short
from export.manifest import Quantization
from export.proof import Features, Fidelity, Proof
from export.quantize.recipe import RecipeUsed
from runtimes.nvidia import GpuState

SCHEMA = 1


@dataclass(frozen=True)
class Subject:
    """An artifact, or a checkpoint (then target, recipe, layout and sha256 are None)."""

    model: str
    synthetic: bool
    target: str | None
    recipe: str | None
    layout: str | None
    sha256: str | None
    """sha256 of artifact.json, which contains that of every other file."""
    disk_bytes: int | None
    origin: Mapping[str, Any]
    quantization: Quantization | None
    proof: Proof | None
    recipe_used: RecipeUsed | None = None
    """Older records of recipes without options leave it out."""

    @property
    def used(self) -> RecipeUsed | None:
        """The recipe with its options; None for a checkpoint."""
        plain = None if self.recipe is None else RecipeUsed(self.recipe)
        return self.recipe_used or plain


@dataclass(frozen=True)
class Case:
    """One job: subject, runtime, device, task, options and round."""

    subject: Subject
    runtime: str
    device: str
    threads: int
    task: str
    options: Options
    round: int
    profile: str | None = None
    """Device profile that limited it, a name of PROFILES."""


@dataclass(frozen=True)
class Item:
    """One answered question; `score` between 0 and 1 if the scorer grades answers, else None."""

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
    """How a task was asked and scored. `asked` items took `asked_s`; others were resumed."""

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
    """Comparison of the subject's next-token distributions with a reference's, token by token.

    Perplexities are of the reference's answers. `vision` is the reference's decoder with the
    subject's image features, `decoder` the subject's decoder with the reference's features, so each
    shows the effect of one half.
    """

    reference: str
    items: int
    equal_answers: int
    fidelity: Fidelity | None
    token_kld: tuple[float, ...]
    perplexity: float | None = None
    reference_perplexity: float | None = None
    first_differences: tuple[int | None, ...] = ()
    """For each answer the index of the first token that the subject would not choose, or None."""
    features: Features | None = None
    vision: Fidelity | None = None
    decoder: Fidelity | None = None
    source: str = ""
    """Source of the prompts."""
    bad: tuple[BadItem, ...] = ()
    """Questions that could not be asked."""


@dataclass(frozen=True)
class Work:
    """Operations and bytes that the network needs, for a roofline.

    Decoding is for one token in the middle of the answer: its operations, and the bytes it reads
    (the decoder's weights as the artifact stores them, keys and values).
    """

    image_flops: int | None
    prefill_flops: int | None
    decode_flops: int | None
    decode_bytes: int | None


@dataclass(frozen=True)
class Outcome:
    """Results of a job. Empty tuples and None: not part of its task."""

    load_s: float | None = None
    warmups: tuple[Timing, ...] = ()
    timings: tuple[Timing, ...] = ()
    memory: tuple[PhaseMemory, ...] = ()
    items: tuple[Item, ...] = ()
    evaluation: Evaluation | None = None
    agreement: Agreement | None = None
    cold_load_s: float | None = None
    """Seconds of the first loading, of files not in the page cache; None if the system kept them
    there. `load_s` is of a second loading, with cached files and initialized libraries (for other
    tasks than latency: of the first loading)."""
    work: Work | None = None
    cpus: tuple[int, ...] | None = None
    """Logical CPUs the process was pinned to."""
    budget_bytes: int | None = None
    """Memory of the device profile; `fits`: whether every phase stayed within it."""
    fits: bool | None = None
    held_by: Literal["cgroup", "watchdog"] | None = None
    """What limited its memory: the kernel, or the parent, which checks ten times per second. None
    without a budget, and on a GPU, where peaks are compared with the budget afterwards."""
    gpu_before: GpuState | None = None
    """State of the job's GPU before loading; `gpu_after`: just after the last answer."""
    gpu_after: GpuState | None = None


@dataclass(frozen=True)
class Record:
    """A line of a run. `reason`: why it failed or was skipped."""

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
    """User and system CPU time of the job's process."""
    noise: tuple[str, ...] = ()
    """Disturbances of the measurement, a sentence each (bench/analysis/noise.py)."""


@dataclass(frozen=True)
class Damage:
    """A line that cannot be read as a record."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: not a record, skipped: {self.reason}"


def append(path: Path, record: Record) -> None:
    """Append one line and flush it to the disk. Raises UserError if that fails.

    Existing records stay intact: a partly written line is removed, and a line that was cut off
    earlier (by a power failure, say) is ended first.
    """
    line = json.dumps(asdict(record), allow_nan=False) + "\n"
    try:
        with path.open("ab+", buffering=0) as file:
            _append(file, line.encode())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); its records so far are intact: free "
            f"some space and continue with --resume -o {path}"
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
    """The records of some runs in order, and the damaged lines. Raises UserError.

    Equal lines are one record.
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
    """The record of one line. Raises UserError or ValueError with the problem."""
    value = parse_json(line, "the line")
    schema = value.get("schema")
    if type(schema) is int and schema > SCHEMA:
        raise Mismatch(f"has schema {schema}, this is for {SCHEMA}; update PocketVLM")
    if schema != SCHEMA:
        raise Mismatch(f"schema {schema!r}, expected {SCHEMA}")
    record = decode(Record, value)
    _expect_recipe(record.case.subject)
    return record


def _expect_recipe(subject: Subject) -> None:
    if subject.recipe_used is None and "-" in (subject.recipe or ""):
        raise Mismatch(
            f"recipe {short(str(subject.recipe))} without recipe_used, as older versions wrote it; "
            f"measure it again"
        )


def _lines(path: Path) -> list[bytes]:
    """Lines separated by line feeds only: an answer may contain other line separators."""
    try:
        return path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; `bench run -o {path}` writes one") from None
