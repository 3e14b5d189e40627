"""The gate for measured peaks of memory: compares a run's with the accepted ones.

A row is an artifact that answers a kind of request. It does not include threads and machine,
because they move the peak by about 1 % (docs/notes/2026-11-peak-memory.md), which is within the
tolerance.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench.analysis.baselines import Difference, load_baseline, save_baseline
from bench.analysis.rows import Row, rows, subject_name
from bench.record import Record
from bench.tasks.latency import request_name
from export.decode import decode

TOLERANCE = 0.05
ACCEPT = "`bench check RUN.jsonl --update` accepts those of a run"


@dataclass(frozen=True)
class Peak:
    """The highest resident set of the processes that answered one kind of request."""

    model: str
    synthetic: bool
    export: str
    """Target, recipe and layout."""
    runtime: str
    request: str
    peak_bytes: int

    @property
    def key(self) -> tuple[str, bool, str, str, str]:
        return self.model, self.synthetic, self.export, self.runtime, self.request


@dataclass(frozen=True)
class Peaks:
    """The file of accepted peaks; each may change by the share `tolerance`."""

    tolerance: float
    rows: tuple[Peak, ...]


def measured(records: Sequence[Record]) -> list[Peak]:
    """The highest peak of each artifact of a run, for each kind of request."""
    highest: dict[object, Peak] = {}
    for row in filter(_judged, rows(records)):
        for latency in row.latencies:
            peak = latency.highest_peak_bytes()
            if peak is None:
                continue
            subject, request = row.subject, request_name(latency.options)
            names = (subject.model, subject.synthetic, subject_name(subject), row.runtime, request)
            if names not in highest or highest[names].peak_bytes < peak:
                highest[names] = Peak(*names, peak)
    return list(highest.values())


def differences(accepted: Peaks, now: Iterable[Peak]) -> list[Difference]:
    """Peaks that differ by more than the tolerance, or that have no accepted value.

    Accepted rows that the run did not measure are ignored.
    """
    known = {row.key: row.peak_bytes for row in accepted.rows}
    return [
        Difference(
            export=f"{row.model}{' (random)' if row.synthetic else ''} {row.export}",
            quantity=f"measured peak, {row.runtime}, {row.request}",
            before=known.get(row.key),
            after=row.peak_bytes,
            tolerance=accepted.tolerance,
        )
        for row in now
        if not _within(known.get(row.key), row.peak_bytes, accepted.tolerance)
    ]


def updated(accepted: Peaks, now: Iterable[Peak]) -> Peaks:
    """The accepted peaks with the measured ones; rows that were not measured stay."""
    rows_ = {row.key: row for row in (*accepted.rows, *now)}
    return replace(accepted, rows=tuple(rows_.values()))


def load(path: Path) -> Peaks:
    """The accepted peaks. Raises UserError if the file is missing or damaged."""
    return load_baseline(path, ACCEPT, lambda content: decode(Peaks, content))


def save(path: Path, peaks: Peaks) -> None:
    """Write one row per line, so that diffs are small. Raises UserError if that fails."""
    save_baseline(path, [asdict(row) for row in peaks.rows], tolerance=peaks.tolerance)


def _judged(row: Row) -> bool:
    """Whether a row is of an artifact on one of our runtimes, on the CPU, without a device profile.

    Memory of a checkpoint is mostly torch's, that of a peer mostly the peer's.
    """
    return row.ours and row.subject.target is not None and row.device == "cpu" and not row.profile


def _within(before: int | None, after: int, tolerance: float) -> bool:
    return before is not None and abs(after / before - 1) <= tolerance
