"""Numbers and tables as text: pure, the same everywhere, a dash for what is absent.

NOT aware of records.
"""

from collections.abc import Mapping, Sequence

from bench.stats import Estimate

ABSENT = "–"


def significant(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits, without an exponent where that stays readable."""
    if value is None:
        return ABSENT
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}".replace("e-0", "e-")
    text = f"{value:#.{digits}g}".rstrip(".")
    return f"{value:,.0f}" if "e" in text or abs(value) >= 10 ** (digits - 1) else text


def megabytes(value: float | None) -> str:
    """Bytes as MB (10^6 bytes)."""
    return ABSENT if value is None else f"{significant(value / 1e6)} MB"


def milliseconds(value: float | None) -> str:
    """Seconds as ms."""
    return ABSENT if value is None else f"{significant(value * 1e3)} ms"


def percent(value: float | None) -> str:
    """A share as per cent with one decimal."""
    return ABSENT if value is None else f"{100 * value:.1f} %"


def interval(estimate: Estimate | None, scale: float = 1.0, digits: int = 3) -> str:
    """`value [low, high]`; the interval is missing where a single sample gives none."""
    if estimate is None:
        return ABSENT
    value = significant(estimate.value * scale, digits)
    if estimate.low is None or estimate.high is None:
        return value
    low, high = (significant(bound * scale, digits) for bound in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def share(estimate: Estimate | None) -> str:
    """A proportion with its interval in per cent, and n."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ABSENT
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{100 * estimate.value:.1f} % [{low:.1f}, {high:.1f}], n = {estimate.n:,}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A markdown table, padded to read well as text; the first `left` columns are names."""
    cells = [[_escape(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(header))]
    rule = ["-" * w if n < left else "-" * (w - 1) + ":" for n, w in enumerate(widths)]
    lines = [
        [_pad(c, w, n < left) for n, (c, w) in enumerate(zip(r, widths, strict=True))]
        for r in cells
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def plain(value: object) -> str:
    """Any JSON value of a proof or an origin in a few words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(inner) for inner in value) if len(value) <= 3 else f"{len(value)}"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ABSENT}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _pad(cell: str, width: int, left: bool) -> str:
    return cell.ljust(width) if left else cell.rjust(width)
