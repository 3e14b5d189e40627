"""From records to rows: what is known of one subject on one runtime, threads and machine.

Records of different machines, software or lengths are never pooled. NOT aware of text or plots.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from bench.environment import Environment
from bench.measure import Timing
from bench.memory import PHASES
from bench.record import Agreement, Options, Record, Subject
from bench.stats import Estimate, grouped_median, mean, median, percentile, proportion


@dataclass(frozen=True)
class Workload:
    """Latency records with equal lengths: one for each round, so each from its own process."""

    options: Options
    records: tuple[Record, ...]

    def over(self, number: Callable[[Timing], float | None]) -> Estimate | None:
        """Median of a number of each request, drawn by processes (see stats.grouped_median)."""
        groups = [[number(t) for t in record.outcome.timings] for record in self.records]
        return grouped_median([[s for s in group if s is not None] for group in groups])

    def load_s(self) -> float | None:
        loads = [record.outcome.load_s for record in self.records]
        return median([seconds for seconds in loads if seconds is not None])

    def token_s(self, percent: float) -> float | None:
        """A percentile of all intervals between tokens."""
        timings = [timing for record in self.records for timing in record.outcome.timings]
        return percentile([s for timing in timings for s in timing.token_s], percent)

    def peak_bytes(self, phase: str) -> int | None:
        """The highest peak of a phase in any round."""
        phases = [memory for record in self.records for memory in record.outcome.memory]
        peaks = [m.peak_bytes for m in phases if m.phase == phase and m.peak_bytes is not None]
        return max(peaks, default=None)

    def last_bytes(self, number: str) -> int | None:
        """The highest `private_bytes` or `file_bytes` at the end of the last phase."""
        last = [record.outcome.memory[-1] for record in self.records if record.outcome.memory]
        found: list[int | None] = [getattr(memory, number) for memory in last]
        return max((value for value in found if value is not None), default=None)

    def highest_peak_bytes(self) -> int | None:
        """The highest peak of the process."""
        peaks = [peak for phase in PHASES if (peak := self.peak_bytes(phase)) is not None]
        return max(peaks, default=None)


@dataclass(frozen=True)
class Row:
    """One subject on one runtime. The first workload is the one that summaries show."""

    subject: Subject
    runtime: str
    threads: int
    machine: int
    workloads: tuple[Workload, ...]
    accuracy: Record | None
    fidelity: Record | None

    @property
    def workload(self) -> Workload | None:
        return self.workloads[0] if self.workloads else None

    @property
    def bits_per_weight(self) -> float | None:
        bits = (self.subject.quantization or {}).get("bits_per_weight")
        return float(bits) if isinstance(bits, int | float) else None

    @property
    def agreement(self) -> Agreement | None:
        return self.fidelity.outcome.agreement if self.fidelity else None

    def first_token_s(self) -> Estimate | None:
        return self.workload.over(lambda t: t.first_token_s) if self.workload else None

    def decode_tokens_per_s(self) -> Estimate | None:
        return self.workload.over(lambda t: t.decode_tokens_per_s) if self.workload else None

    def accuracy_share(self) -> Estimate | None:
        if self.accuracy is None:
            return None
        items = self.accuracy.outcome.items
        return proportion(sum(item.correct for item in items), len(items))

    def kld(self) -> Estimate | None:
        return mean(self.agreement.token_kld) if self.agreement else None

    def top1(self) -> Estimate | None:
        fidelity = self.agreement.fidelity if self.agreement else None
        return proportion(round(fidelity.top1 * fidelity.n), fidelity.n) if fidelity else None


def by_model(shown: Sequence[Row]) -> list[list[Row]]:
    """Rows of one model together, random weights apart, in order of appearance."""
    groups: dict[tuple[str, bool], list[Row]] = {}
    for row in shown:
        groups.setdefault((row.subject.model, row.subject.synthetic), []).append(row)
    return list(groups.values())


def subject_name(subject: Subject) -> str:
    """What was exported, in two or three words; `checkpoint` where nothing was."""
    if subject.target is None:
        return "checkpoint"
    layout = f" {subject.layout}" if subject.layout not in (None, "native") else ""
    return f"{subject.target} {subject.recipe}{layout}"


def names(shown: Sequence[Row]) -> list[str]:
    """A name for each row, with its sha256, threads or machine where those tell rows apart."""
    return [", ".join(_name_parts(row, shown)) for row in shown]


def machines(records: Sequence[Record]) -> tuple[Environment, ...]:
    """The different environments, in order of appearance."""
    found = {_key(record.environment): record.environment for record in records}
    return tuple(found.values())


def rows(records: Sequence[Record]) -> tuple[Row, ...]:
    """One row for each subject, runtime, threads and machine that has a result, in order."""
    order = [_key(environment) for environment in machines(records)]
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.status == "ok":
            case = record.case
            place = order.index(_key(record.environment))
            key = _key((asdict(case.subject), case.runtime, case.device, case.threads, place))
            groups.setdefault(key, []).append(record)
    return tuple(_row(group, order) for group in groups.values())


def _name_parts(row: Row, shown: Sequence[Row]) -> list[str]:
    name = subject_name(row.subject)
    same = [r for r in shown if subject_name(r.subject) == name and r.runtime == row.runtime]
    parts = [name]
    if row.subject.sha256 and len({r.subject.sha256 for r in same}) > 1:
        parts.append(row.subject.sha256[:7])
    if len({r.threads for r in same}) > 1:
        parts.append(f"{row.threads} threads")
    if len({r.machine for r in same}) > 1:
        parts.append(f"machine {row.machine + 1}")
    return parts


def _row(group: Sequence[Record], order: Sequence[str]) -> Row:
    first = group[0]
    return Row(
        subject=first.case.subject,
        runtime=first.case.runtime,
        threads=first.case.threads,
        machine=order.index(_key(first.environment)),
        workloads=_workloads([record for record in group if record.outcome.timings]),
        accuracy=_largest(group, lambda record: len(record.outcome.items)),
        fidelity=_largest(group, _compared),
    )


def _workloads(group: Sequence[Record]) -> tuple[Workload, ...]:
    found: dict[Options, list[Record]] = {}
    for record in group:
        found.setdefault(record.case.options, []).append(record)
    workloads = [Workload(options, tuple(records)) for options, records in found.items()]
    return tuple(sorted(workloads, key=lambda workload: workload.options.prompt != "image"))


def _largest(group: Sequence[Record], size: Callable[[Record], int]) -> Record | None:
    """The record with most items, the last of equal ones."""
    with_items = [record for record in group if size(record)]
    return max(reversed(with_items), key=size, default=None)


def _compared(record: Record) -> int:
    return record.outcome.agreement.items if record.outcome.agreement else 0


def _key(value: object) -> str:
    return json.dumps(asdict(value) if isinstance(value, Environment) else value, sort_keys=True)
