"""Writes tables of predicted sizes and memory, and of how they differ from other figures."""

from collections.abc import Iterable

from bench.analysis.baselines import Difference
from bench.analysis.predictions import Prediction, PredictionError
from bench.machine.profiles import PROFILES
from bench.reporting.fmt import ABSENT, change, megabytes, significant, table

FITS = {True: "yes", False: "no", None: ABSENT}


def predicted(rows: Iterable[Prediction]) -> str:
    """Writes a table of predictions: disk size, KV cache, peak memory, and which devices fit it."""
    header = ("model", "target", "recipe", "disk", "KV a token", "peak memory", *PROFILES)
    cells = [
        (
            row.model,
            row.target,
            row.recipe,
            megabytes(row.disk_bytes),
            _kilobytes(row.kv_bytes_per_token),
            megabytes(row.peak_bytes),
            *(FITS[row.fits[name]] for name in PROFILES),
        )
        for row in rows
    ]
    return table(header, cells, left=3)


def differing(differences: Iterable[Difference]) -> str:
    """Writes a table of the quantities that differ from the accepted ones, failures first."""
    rows = [
        (
            d.export,
            d.quantity,
            d.verdict,
            ", ".join(d.files),
            *(ABSENT if value is None else f"{value:,}" for value in (d.before, d.after)),
            _change(d),
        )
        for d in sorted(differences, key=lambda d: not d.fails)
    ]
    header = ("export", "quantity", "verdict", "in", "accepted", "now", "change")
    return table(header, rows, left=4)


def _kilobytes(count: int | None) -> str:
    return ABSENT if count is None else f"{significant(count / 1e3)} kB"


def _change(d: Difference) -> str:
    if not d.before or d.after is None:  # nothing has no share
        return ABSENT
    share = d.after / d.before - 1
    return change(share) if abs(share) >= 0.0005 else f"{significant(1e6 * share)} ppm"


def errors(rows: Iterable[PredictionError]) -> str:
    """Writes a table of predicted and measured memory peaks, and the prediction's errors."""
    header = ("export, work in positions", "predicted peak", "measured", "off", "disk bytes off")
    cells = [
        (
            row.export,
            megabytes(row.predicted_peak_bytes),
            megabytes(row.measured_peak_bytes),
            change(row.relative),
            f"{row.disk_bytes_off:,}",
        )
        for row in rows
    ]
    return table(header, cells)
