"""Tables of predicted footprints, and of what differs from the accepted ones. Pure."""

from collections.abc import Iterable

from bench.analysis.baselines import Difference
from bench.analysis.predictions import Prediction, PredictionError
from bench.machine.profiles import PROFILES
from bench.reporting.fmt import ABSENT, change, megabytes, significant, table

FITS = {True: "yes", False: "no", None: ABSENT}


def predicted(rows: Iterable[Prediction]) -> str:
    """A table of all rows: sizes, then which device profiles hold the peak."""
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
    """A table of the differences, those that fail first."""
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
    if d.before is None or d.after is None:
        return ABSENT
    share = d.after / d.before - 1
    return change(share) if abs(share) >= 0.0005 else f"{significant(1e6 * share)} ppm"


def errors(rows: Iterable[PredictionError]) -> str:
    """A table of predicted and measured peaks."""
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
