"""Compares the measured peaks of memory of a run with those accepted in a baseline file.

There is a peak for each artifact, runtime and kind of request. Threads and machine do not count,
because they change the peak by about 1 % (docs/notes/2026-11-peak-memory.md), which is within the
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
    """The peak memory of one artifact on one runtime for one kind of request.

    `export` is the artifact's target, recipe and layout; `synthetic`: with random weights.
    `peak_bytes` is the highest resident set of the processes that answered.
    """

    model: str
    synthetic: bool
    export: str
    runtime: str
    request: str
    peak_bytes: int

    @property
    def key(self) -> tuple[str, bool, str, str, str]:
        return self.model, self.synthetic, self.export, self.runtime, self.request


@dataclass(frozen=True)
class Peaks:
    """The content of the file of accepted peaks; each may change by the share `tolerance`."""

    tolerance: float
    rows: tuple[Peak, ...]


def measured(records: Sequence[Record]) -> list[Peak]:
    """Returns the highest peak of each artifact and runtime of a run, for each kind of request."""
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
    """Returns the peaks of a run that differ by more than the tolerance, or were never accepted.

    Accepted peaks that the run did not measure are ignored.
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
    """Returns the accepted peaks, replaced and extended by the measured ones."""
    rows_ = {row.key: row for row in (*accepted.rows, *now)}
    return replace(accepted, rows=tuple(rows_.values()))


def load(path: Path) -> Peaks:
    """Reads the file of accepted peaks. Raises UserError if it is missing or damaged."""
    return load_baseline(path, ACCEPT, lambda content: decode(Peaks, content))


def save(path: Path, peaks: Peaks) -> None:
    """Writes the file of accepted peaks, one per line. Raises UserError if that fails."""
    save_baseline(path, [asdict(row) for row in peaks.rows], tolerance=peaks.tolerance)


def _judged(row: Row) -> bool:
    """Whether these are results of an artifact on a runtime of PocketVLM's, on the CPU.

    A device profile must not have limited it. Checkpoints and other projects' runtimes are left
    out, because their memory is mostly not PocketVLM's.
    """
    return row.ours and row.subject.target is not None and row.device == "cpu" and not row.profile


def _within(before: int | None, after: int, tolerance: float) -> bool:
    return before is not None and abs(after / before - 1) <= tolerance
