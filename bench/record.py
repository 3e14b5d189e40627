"""Records: each describes one measured, failed or skipped job and is a line of a file of JSON.

`bench run` appends them, reports read them. NOT aware of how anything is measured or shown.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from bench.machine.environment import Environment, Load
from bench.machine.memory import PhaseMemory
from bench.measure import Timing
from bench.options import Options
from export.decode import Mismatch, decode
from export.errors import UserError
from export.files import json_lines, parse_json, short
from export.manifest import Quantization
from export.proof import Features, Fidelity, Proof
from export.quantize.recipe import RecipeUsed
from runtimes.base import Browser
from runtimes.nvidia import GpuState
from runtimes.threads import Threads

SCHEMA = 1


@dataclass(frozen=True)
class Subject:
    """What was measured: an artifact, or a checkpoint that was not exported.

    For a checkpoint, target, recipe, layout, sha256, quantization and proof are None. `synthetic`:
    the weights are random. `origin`: where the weights come from, as in artifact.json.
    """

    model: str
    synthetic: bool
    target: str | None
    recipe: str | None
    layout: str | None
    sha256: str | None
    """sha256 of the artifact's artifact.json, which contains the sha256 of every other file."""
    disk_bytes: int | None
    origin: Mapping[str, Any]
    quantization: Quantization | None
    proof: Proof | None
    recipe_used: RecipeUsed | None = None
    """The recipe with its options; None also in older records of recipes without options."""

    @property
    def used(self) -> RecipeUsed | None:
        """The recipe with its options, also for older records; None for a checkpoint."""
        plain = None if self.recipe is None else RecipeUsed(self.recipe)
        return self.recipe_used or plain


@dataclass(frozen=True)
class Case:
    """What one job measures: a subject in a runtime, on a device, doing a task with options.

    `round` numbers the repetitions of a latency job, from 0; it is 0 for other tasks.
    """

    subject: Subject
    runtime: str
    device: str
    threads: int
    task: str
    options: Options
    round: int
    profile: str | None = None
    """Name in PROFILES of the device profile that limited the job; None: no limits."""
    reference: str | None = None
    """Fidelity task: digest (export.origin.identity) of the checkpoint that the artifact is
    compared with; None for other tasks, and in older records."""


@dataclass(frozen=True)
class Item:
    """One question that the model answered.

    `score`, between 0 and 1, is None if the scorer only tells right from wrong (`correct`). `part`
    is the subset of the data set that the question belongs to, `gold` its right answers.
    """

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
    """A question that could not be asked or scored; `reason` says why and where its data are."""

    id: str
    reason: str


@dataclass(frozen=True)
class Evaluation:
    """How the questions of a task were asked and scored.

    `prompt` is the template of the prompts, `source` the name and version of the data. The job
    itself asked `asked` questions in `asked_s` seconds; answers of an interrupted run were reused.
    `bad` are the questions that could not be asked or scored.
    """

    prompt: str
    max_tokens: int
    scorer: str
    scorer_version: int
    source: str
    asked: int
    asked_s: float
    bad: tuple[BadItem, ...] = ()
    notes: tuple[str, ...] = ()
    """What images lost when they were read, a line each."""


@dataclass(frozen=True)
class Agreement:
    """Result of the fidelity task: how far an artifact's predictions are from a reference model's.

    Both predict each token of the reference's answers to `items` questions; in `equal_answers` of
    them the artifact would choose every token of it. `token_kld` has the KL divergence in nats for
    each token, `fidelity` their statistics. Perplexities are those of the reference's answers,
    for the artifact (`perplexity`) and the reference. `vision` combines the artifact's image
    features with the reference's decoder, `decoder` the reference's features with the artifact's
    decoder: each shows the error of one half. `features` compares the image features themselves.
    """

    reference: str
    items: int
    equal_answers: int
    fidelity: Fidelity | None
    token_kld: tuple[float, ...]
    perplexity: float | None = None
    reference_perplexity: float | None = None
    first_differences: tuple[int | None, ...] = ()
    """For each answer, the index of the first token that the artifact would not choose; None: it
    would choose all."""
    features: Features | None = None
    vision: Fidelity | None = None
    decoder: Fidelity | None = None
    source: str = ""
    """Name and version of the data that the questions come from."""
    bad: tuple[BadItem, ...] = ()
    """Questions that could not be asked."""
    other: str | None = None
    """How the reference differs from the checkpoint that the artifact was exported from; None: it
    is that checkpoint, or the record is older."""


@dataclass(frozen=True)
class Work:
    """Floating-point operations and bytes that a request needs, computed from the network's shapes.

    Reports compare it with the measured time (roofline). `decode_flops` and `decode_bytes` are for
    one token in the middle of the answer; the bytes are the decoder's weights, as the artifact
    stores them, and the cached keys and values that it reads.
    """

    image_flops: int | None
    prefill_flops: int | None
    decode_flops: int | None
    decode_bytes: int | None


@dataclass(frozen=True)
class Outcome:
    """What one job measured. Fields that its task does not measure are empty tuples or None.

    Latency task: `warmups`, `timings`, `cold_load_s` and `work`. Tasks with questions: `items` and
    `evaluation`. Fidelity task: `agreement`. All: `load_s`, the seconds to load the model,
    and `memory` of each phase.
    """

    load_s: float | None = None
    warmups: tuple[Timing, ...] = ()
    timings: tuple[Timing, ...] = ()
    memory: tuple[PhaseMemory, ...] = ()
    items: tuple[Item, ...] = ()
    evaluation: Evaluation | None = None
    agreement: Agreement | None = None
    cold_load_s: float | None = None
    """Latency task: seconds of the first loading, with files that are not in the system's page
    cache; None if the system kept them there. `load_s` is the second loading, with cached files and
    initialized libraries. In other tasks `load_s` is the only loading."""
    work: Work | None = None
    cpus: tuple[int, ...] | None = None
    """Numbers of the logical CPUs that the process was pinned to; None: not known."""
    budget_bytes: int | None = None
    """Memory of the device profile; None: the job had no profile."""
    fits: bool | None = None
    """Whether every phase stayed within `budget_bytes`; None: no budget, or not measured."""
    held_by: Literal["cgroup", "watchdog"] | None = None
    """What enforced the budget: the kernel ("cgroup"), or the parent process, which checks ten
    times per second ("watchdog"). None: no budget, or a GPU, where the peaks are only compared with
    the budget after the job."""
    gpu_before: GpuState | None = None
    """Clocks, temperature and power of the job's GPU before loading; None: it ran on the CPU."""
    gpu_after: GpuState | None = None
    """The same just after the last answer."""
    browser: Browser | None = None
    """The browser that it ran in; None: it ran in none."""
    threads: Threads | None = None
    """The threads that the session computed with at the end, and why; None: older records."""
    choices: Mapping[str, str] = field(default_factory=dict)
    """What the session chose by the machine: part of the model -> words (ChoosingSession)."""


@dataclass(frozen=True)
class Record:
    """One line of a file that `bench run` writes: a job, how it ended, and what it measured.

    `reason` says why the job failed or was skipped; None if it is "ok". `wall_s` is the whole
    time of the job's process; None for a skipped job. `before` and `after` are the machine's load.
    """

    schema: int
    case: Case
    status: Literal["ok", "failed", "skipped"]
    reason: str | None
    started_at: str
    """Time in UTC as ISO 8601, to the second."""
    wall_s: float | None
    before: Load
    after: Load
    environment: Environment
    outcome: Outcome
    cpu_s: float | None = None
    """Seconds of CPU time, user and system, of the job's process."""
    noise: tuple[str, ...] = ()
    """A sentence for each disturbance of the measurement, such as other busy processes."""


@dataclass(frozen=True)
class Damage:
    """A line of a file of records that cannot be read; `line` counts from 1."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: not a record, skipped: {self.reason}"


def append(path: Path, record: Record) -> None:
    """Append the record to a file as a line of JSON, and wait until it is on the disk.

    Existing records stay intact: if writing fails, the partly written line is removed and UserError
    raised. If the file's last line was cut off earlier, the record starts on a new line.
    """
    line = json.dumps(asdict(record), allow_nan=False) + "\n"
    try:
        with path.open("ab+", buffering=0) as file:
            append_line(file, line.encode())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); its records so far are intact: free "
            f"some space and continue with --resume -o {path}"
        ) from None


def append_line(file: IO[bytes], line: bytes) -> None:
    """Append a line to a file that is open as "ab+" without a buffer; wait until it is on the disk.

    Starts a new line if the last one was cut off. If writing fails, removes what was written of the
    line and raises OSError.
    """
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
    """Read files of records; return the records in order, and the lines that are not records.

    Of several equal lines only the first counts. Raises UserError for a file that cannot be read.
    """
    records: list[Record] = []
    seen: set[bytes] = set()
    damages: list[Damage] = []
    for path in paths:
        for number, line in _lines(path):
            if line in seen:
                continue
            try:
                records.append(parse(line))
                seen.add(line)
            except (ValueError, UserError) as error:
                damages.append(Damage(path.name, number, str(error)))
    return records, damages


def parse(line: bytes) -> Record:
    """Decode one line of JSON as a record. Raises UserError or ValueError if it is not one."""
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


def _lines(path: Path) -> list[tuple[int, bytes]]:
    try:
        return json_lines(path)
    except UserError as error:
        raise UserError(f"{error}; `bench run -o {path}` writes one") from None
