"""The measured half of the gate: a run's peaks of memory beside those that were accepted.

A row is an artifact that answers a request. Threads and machine are no part of it, because they
move the peak by about 1 % (docs/notes/2026-11-peak-memory.md), which is within the baseline's
tolerance. NOT aware of how memory is measured or of predictions.
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
ACCEPT = "`bench check RUN.jsonl --update` accepts what a run measured"


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
    """What the file of accepted peaks holds; one may grow by the share `tolerance`."""

    tolerance: float
    rows: tuple[Peak, ...]


def measured(records: Sequence[Record]) -> list[Peak]:
    """The peaks of a run's artifacts, highest of each kind of request."""
    found: dict[object, Peak] = {}
    for row in filter(_judged, rows(records)):
        for latency in row.latencies:
            peak = latency.highest_peak_bytes()
            if peak is None:
                continue
            subject, request = row.subject, request_name(latency.options)
            names = (subject.model, subject.synthetic, subject_name(subject), row.runtime, request)
            if names not in found or found[names].peak_bytes < peak:
                found[names] = Peak(*names, peak)
    return list(found.values())


def differences(accepted: Peaks, now: Iterable[Peak]) -> list[Difference]:
    """What is beyond the tolerance, either way, or was never accepted.

    What a run did not measure is none of its concern; what is within is noise and not told.
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
    """With what was measured now; rows that were not measured stay as they are."""
    rows_ = {row.key: row for row in (*accepted.rows, *now)}
    return replace(accepted, rows=tuple(rows_.values()))


def load(path: Path) -> Peaks:
    """The accepted peaks. Raises UserError where the file is missing or is none."""
    return load_baseline(path, ACCEPT, lambda content: decode(Peaks, content))


def save(path: Path, peaks: Peaks) -> None:
    """A row a line, so that a change is seen where it is. Raises UserError."""
    save_baseline(path, [asdict(row) for row in peaks.rows], tolerance=peaks.tolerance)


def _judged(row: Row) -> bool:
    """Our runtimes on the CPU, not held down by a device profile.

    A checkpoint's process is mostly torch, a peer's mostly the peer: what grows there is not ours.
    """
    return row.ours and row.subject.target is not None and row.device == "cpu" and not row.profile


def _within(before: int | None, after: int, tolerance: float) -> bool:
    return before is not None and abs(after / before - 1) <= tolerance
