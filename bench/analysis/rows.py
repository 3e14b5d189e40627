"""Groups benchmark records into Rows: all results of one artifact or checkpoint on one runtime.

Records of different machines, software, threads or request lengths are never pooled.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from bench.analysis.machines import machine_key, machines
from bench.analysis.namesakes import told_apart
from bench.analysis.scores import Scores, scores_by_task
from bench.analysis.stats import Estimate, grouped_median, mean, median, percentile, proportion
from bench.measure import Timing
from bench.options import Options
from bench.record import Agreement, Case, Record, Subject, Work
from bench.tasks import with_own_options
from runtimes import RUNTIMES


@dataclass(frozen=True)
class LatencyRecords:
    """The measurements of one kind of request by one artifact or checkpoint on one runtime.

    There is a record for each round, from a process of its own, with the Timing of each of its
    requests. The arguments `number` take a quantity, such as `total_s`, from a Timing.
    """

    options: Options
    records: tuple[Record, ...]

    def over(self, number: Callable[[Timing], float | None]) -> Estimate | None:
        """Returns the median of a quantity over all requests, with a 95 % interval.

        The interval comes from a bootstrap that draws processes, then their requests. None without
        values.
        """
        return grouped_median(self.rounds(number))

    def rounds(self, number: Callable[[Timing], float | None]) -> list[list[float]]:
        """Returns a quantity of each request, in one list per process; None values are left out."""
        groups = [[number(t) for t in record.outcome.timings] for record in self.records]
        return [[s for s in group if s is not None] for group in groups]

    def middle(self, number: Callable[[Timing], float | None]) -> float | None:
        """Returns the median of a quantity over all requests; None without values."""
        return median([sample for group in self.rounds(number) for sample in group])

    def started(self) -> list[str]:
        """Returns the start time of each process, as ISO 8601 text."""
        return [record.started_at for record in self.records]

    def load_s(self) -> float | None:
        return _median([record.outcome.load_s for record in self.records])

    def cold_load_s(self) -> float | None:
        """Returns the median seconds of loading while no file is in the system's page cache."""
        return _median([record.outcome.cold_load_s for record in self.records])

    @property
    def threads(self) -> frozenset[int]:
        """The numbers of threads that the processes computed with."""
        used = ((record.outcome.threads, record.case.threads) for record in self.records)
        return frozenset(chosen.count if chosen else planned for chosen, planned in used)

    @property
    def work(self) -> Work | None:
        return next((r.outcome.work for r in self.records if r.outcome.work), None)

    def token_s(self, percent: float) -> float | None:
        """Returns a percentile (0 to 100) of the seconds between tokens, over all requests."""
        timings = [timing for record in self.records for timing in record.outcome.timings]
        return percentile([s for timing in timings for s in timing.token_s], percent)

    def peak_bytes(self, phase: str) -> int | None:
        """Returns the highest memory peak in a phase, such as `prefill`, over all rounds."""
        phases = [memory for record in self.records for memory in record.outcome.memory]
        peaks = [m.peak_bytes for m in phases if m.phase == phase and m.peak_bytes is not None]
        return max(peaks, default=None)

    def peaks(self) -> list[int]:
        """Returns the memory peak of each process in bytes; unmeasured processes are left out."""
        peaks = [[m.peak_bytes for m in r.outcome.memory] for r in self.records]
        known = [[peak for peak in own if peak is not None] for own in peaks]
        return [max(own) for own in known if own]

    def last_bytes(self, number: str) -> int | None:
        """Returns the value of a field of PhaseMemory, such as `pss_bytes`, after the last phase.

        It is the highest of all rounds; None if no round has a value.
        """
        last = [record.outcome.memory[-1] for record in self.records if record.outcome.memory]
        found: list[int | None] = [getattr(memory, number) for memory in last]
        return max((value for value in found if value is not None), default=None)

    def device_bytes(self, phase: str | None = None) -> int | None:
        """Returns the highest GPU memory at the end of a phase, over all rounds.

        Without `phase`, over all phases too. None if no figure is known.
        """
        phases = [memory for record in self.records for memory in record.outcome.memory]
        own = [m.device_bytes for m in phases if phase in (None, m.phase)]
        return max((held for held in own if held is not None), default=None)

    def device_sources(self) -> set[str]:
        """Returns where the figures of GPU memory come from.

        `process`: the driver's figure for the process; `card`: growth of the card's used memory.
        """
        phases = [memory for record in self.records for memory in record.outcome.memory]
        return {m.device_source for m in phases if m.device_source is not None}

    def highest_peak_bytes(self) -> int | None:
        """Returns the highest memory peak of any of the processes; None if no figure is known."""
        return max(self.peaks(), default=None)


@dataclass(frozen=True)
class Row:
    """All results of one subject (an artifact or a checkpoint) on one runtime.

    `machine` is the index of the machine among those of the records; `profile` the device profile
    whose memory limit applied. `latencies` has one entry for each kind of request, `scores` one for
    each task. Summaries show the first of `latencies` and the scores of `main_task`, which is the
    same for all rows of a model. `fidelity` is the largest comparison with the reference model.
    """

    subject: Subject
    runtime: str
    device: str
    threads: int
    profile: str | None
    machine: int
    latencies: tuple[LatencyRecords, ...]
    scores: tuple[Scores, ...]
    fidelity: Record | None
    main_task: str | None = None
    fidelity_samples: int = 0
    """Number of different samples of questions compared; `fidelity` is the largest."""

    @property
    def latency(self) -> LatencyRecords | None:
        return self.latencies[0] if self.latencies else None

    @property
    def contended(self) -> LatencyRecords | None:
        """The same request as `latency`, measured beside a busy process; None: not measured."""
        wanted = self.latency and replace(self.latency.options, contended=True)
        return next((one for one in self.latencies[1:] if one.options == wanted), None)

    @property
    def ours(self) -> bool:
        """Whether the runtime is PocketVLM's, not another project's or a test's fake."""
        return self.runtime in RUNTIMES and RUNTIMES[self.runtime].ours

    @property
    def bits_per_weight(self) -> float | None:
        quantization = self.subject.quantization
        return None if quantization is None else quantization.bits_per_weight

    @property
    def agreement(self) -> Agreement | None:
        return self.fidelity.outcome.agreement if self.fidelity else None

    @property
    def fits(self) -> bool | None:
        """Whether all processes stayed within the device profile's memory; None: not known."""
        found = [record.outcome.fits for record in self.latency.records] if self.latency else []
        return None if not found or None in found else all(found)

    @property
    def budget_bytes(self) -> int | None:
        """Bytes that the device profile allows one process; None without a profile."""
        records = self.latency.records if self.latency else ()
        return next((b for r in records if (b := r.outcome.budget_bytes) is not None), None)

    @property
    def peak_bytes(self) -> int | None:
        return self.latency.highest_peak_bytes() if self.latency else None

    @property
    def device_bytes(self) -> int | None:
        return self.latency.device_bytes() if self.latency else None

    @property
    def counted_bytes(self) -> int | None:
        """The peak that budgets limit: of GPU memory on a GPU, of the process's memory on a CPU."""
        return self.peak_bytes if self.device == "cpu" else self.device_bytes

    @property
    def held_by(self) -> str | None:
        """What limited the process to its device profile's memory.

        `cgroup`: the kernel; `watchdog`: the parent process, by polling; None: nothing did.
        """
        records = self.latency.records if self.latency else ()
        return next((r.outcome.held_by for r in records if r.outcome.held_by), None)

    @property
    def accuracy(self) -> Scores | None:
        """The scores of the task `main_task`; None if there are none."""
        return self.of_task(self.main_task)

    @property
    def graded(self) -> bool:
        """Whether answers to `main_task` get any score from 0 to 1, not only right or wrong."""
        return self.accuracy is not None and self.accuracy.graded

    def of_task(self, task: str | None) -> Scores | None:
        return next((scores for scores in self.scores if scores.task == task), None)

    def correct(self) -> Mapping[str, bool]:
        """Returns, for each question id of `main_task`, whether the answer was right."""
        return self.accuracy.correct() if self.accuracy else {}

    def total_s(self) -> Estimate | None:
        return self.latency.over(lambda t: t.total_s) if self.latency else None

    def first_token_s(self) -> Estimate | None:
        return self.latency.over(lambda t: t.first_token_s) if self.latency else None

    def decode_tokens_per_s(self) -> Estimate | None:
        return self.latency.over(lambda t: t.decode_tokens_per_s) if self.latency else None

    def contended_tokens_per_s(self) -> Estimate | None:
        """Returns the decode rate beside a busy process."""
        return self.contended.over(lambda t: t.decode_tokens_per_s) if self.contended else None

    def accuracy_share(self) -> Estimate | None:
        return self.accuracy.share() if self.accuracy else None

    def kld(self) -> Estimate | None:
        return mean(self.agreement.token_kld) if self.agreement else None

    def top1(self) -> Estimate | None:
        fidelity = self.agreement.fidelity if self.agreement else None
        return proportion(round(fidelity.top1 * fidelity.n), fidelity.n) if fidelity else None


def by_model(shown: Sequence[Row]) -> list[list[Row]]:
    """Groups rows by model, in order of first appearance.

    A model with random weights and the same model with real ones are different groups.
    """
    groups: dict[tuple[str, bool], list[Row]] = {}
    for row in shown:
        groups.setdefault((row.subject.model, row.subject.synthetic), []).append(row)
    return list(groups.values())


def coarseness(row: Row) -> tuple[bool, float]:
    """Returns a sort key: checkpoints come first, then artifacts by decreasing bits per weight."""
    return row.subject.target is not None, -(row.bits_per_weight or 0.0)


def subject_name(subject: Subject) -> str:
    """Names an artifact by target, recipe and layout (`gguf int4`), a checkpoint `checkpoint`."""
    if subject.target is None:
        return "checkpoint"
    layout = f" {subject.layout}" if subject.layout not in (None, "native") else ""
    return f"{subject.target} {subject.recipe}{layout}"


def names(shown: Sequence[Row]) -> list[str]:
    """Returns a name for each row, distinct among the rows `shown` on the same runtime.

    It is the target and recipe (`gguf int4`); sha256, device, profile, threads or machine are added
    only where names would be equal.
    """
    return [", ".join(_name_parts(row, shown)) for row in shown]


def rows(records: Sequence[Record]) -> tuple[Row, ...]:
    """Groups successful records into rows, in order of first appearance.

    A row has one subject, runtime, device, number of threads, device profile and machine; only the
    shards of one sample of questions are merged across machines. Different models of one name get
    names of their own.
    """
    records = told_apart(records)
    order = [machine_key(environment) for environment in machines(records)]
    records = [replace(record, case=with_own_options(record.case)) for record in records]
    groups: dict[str, list[Record]] = {}
    homes: dict[str, str] = {}
    for record in records:
        if record.status == "ok":
            case = record.case
            machine = order.index(machine_key(record.environment))
            held = (case.runtime, case.device, case.threads, case.profile, machine)
            key = _key((asdict(case.subject), *held))
            if case.options.shard is not None:
                key = homes.setdefault(_sample(case), key)
            groups.setdefault(key, []).append(record)
    return _alike([_row(group, order) for group in groups.values()])


def _sample(case: Case) -> str:
    """Returns a text that is equal for all shards of one sample, on whichever machine they ran."""
    options = replace(case.options, shard=None)
    return _key((asdict(case.subject), case.runtime, case.device, case.task, asdict(options)))


def _alike(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Chooses what the summary of each model shows: one kind of request and one accuracy task.

    They are those that most rows of the model have. Returns copies of all rows in their order, with
    `latencies` sorted by how many rows have such a request, those beside a busy process last, and
    that task as `main_task`.
    """
    alike: dict[int, Row] = {}
    for group in by_model(rows):
        asked = Counter(latency.options for row in group for latency in row.latencies)
        tasks = Counter(scores.task for row in group for scores in row.scores)
        main = max(tasks, key=lambda task: tasks[task], default=None)
        for row in group:
            ordered = sorted(
                row.latencies, key=lambda one: (one.options.contended, -asked[one.options])
            )
            alike[id(row)] = replace(row, latencies=tuple(ordered), main_task=main)
    return tuple(alike[id(row)] for row in rows)


def _name_parts(row: Row, shown: Sequence[Row]) -> list[str]:
    name = subject_name(row.subject)
    same = [r for r in shown if subject_name(r.subject) == name and r.runtime == row.runtime]
    parts = [name]
    if row.subject.sha256 and len({r.subject.sha256 for r in same}) > 1:
        parts.append(row.subject.sha256[:7])
    if len({r.device for r in same}) > 1:
        parts.append(row.device)
    if len({r.profile for r in same}) > 1:
        parts.append(row.profile or "no profile")
    if len({(r.profile, r.threads) for r in same}) > len({r.profile for r in same}):
        parts.append(f"{row.threads} threads")
    if len({r.machine for r in same}) > 1:
        parts.append(f"machine {row.machine + 1}")
    return parts


def _row(group: Sequence[Record], order: Sequence[str]) -> Row:
    first = group[0]
    compared = [record for record in group if record.outcome.agreement]
    own = [r for r in compared if r.outcome.agreement and r.outcome.agreement.other is None]
    return Row(
        subject=first.case.subject,
        runtime=first.case.runtime,
        device=first.case.device,
        profile=first.case.profile,
        threads=first.case.threads,
        machine=order.index(machine_key(first.environment)),
        latencies=_latencies([record for record in group if record.outcome.timings]),
        scores=scores_by_task(group),
        fidelity=_largest(own or compared, _compared),
        fidelity_samples=len({(r.case.options, r.case.reference) for r in compared}),
    )


def _latencies(group: Sequence[Record]) -> tuple[LatencyRecords, ...]:
    by_options: dict[Options, list[Record]] = {}
    for record in group:
        by_options.setdefault(record.case.options, []).append(record)
    latencies = [LatencyRecords(options, tuple(records)) for options, records in by_options.items()]
    return tuple(sorted(latencies, key=lambda latency: latency.options.prompt != "image"))


def _largest(group: Sequence[Record], size: Callable[[Record], int]) -> Record | None:
    """Returns the record with the highest `size`, the last among equals; None if all are 0."""
    with_items = [record for record in group if size(record)]
    return max(reversed(with_items), key=size, default=None)


def _median(numbers: Sequence[float | None]) -> float | None:
    return median([number for number in numbers if number is not None])


def _compared(record: Record) -> int:
    return record.outcome.agreement.items if record.outcome.agreement else 0


def _key(value: object) -> str:
    """Writes a value as JSON with sorted keys, so that equal values give equal texts."""
    return json.dumps(value, sort_keys=True)
