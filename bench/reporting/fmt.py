"""Formats numbers and tables as text; what is absent becomes a dash."""

from collections.abc import Callable, Mapping, Sequence

from bench.analysis.stats import Estimate

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
    """`value [low, high]`; only `value` if there is no interval."""
    if estimate is None:
        return ABSENT
    value = significant(estimate.value * scale, digits)
    if estimate.low is None or estimate.high is None:
        return value
    low, high = (significant(bound * scale, digits) for bound in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def share(estimate: Estimate | None) -> str:
    """A proportion with its interval in per cent, and n."""
    n = f", n = {estimate.n:,}" if estimate else ""
    return _share(estimate) + n


def intervals(column: Sequence[Estimate | None], scale: float = 1.0) -> list[str]:
    """`interval` of each estimate, followed by n if n is not the same for all."""
    return _counted(column, lambda estimate: interval(estimate, scale))


def shares(column: Sequence[Estimate | None]) -> list[str]:
    """Proportions in per cent with their intervals, with n as in `intervals`."""
    return _counted(column, _share)


def change(value: float) -> str:
    """A relative change in per cent, always with its sign."""
    return f"{100 * value:+.1f} %"


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def count(n: int, noun: str, plural: str | None = None) -> str:
    """1 job, 2 jobs; 1 process, 2 processes."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A markdown table, padded to be readable as text; the first `left` columns align left."""
    cells = [[_escape(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(header))]
    rule = ["-" * w if n < left else "-" * (w - 1) + ":" for n, w in enumerate(widths)]
    lines = [
        [_pad(c, w, n < left) for n, (c, w) in enumerate(zip(r, widths, strict=True))]
        for r in cells
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def known(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: int
) -> tuple[list[str], list[list[str]]]:
    """Header and rows without columns of dashes only; the first `left` columns always stay."""
    kept = [n for n in range(len(header)) if n < left or any(row[n] != ABSENT for row in rows)]
    return [header[n] for n in kept], [[row[n] for n in kept] for row in rows]


def plain(value: object) -> str:
    """Any JSON value of a proof in a few words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(inner) for inner in value) if len(value) <= 3 else f"{len(value)}"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ABSENT}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _share(estimate: Estimate | None) -> str:
    if estimate is None:
        return ABSENT
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.1f} %"
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _counted(
    column: Sequence[Estimate | None], cell: Callable[[Estimate | None], str]
) -> list[str]:
    alike = len({estimate.n for estimate in column if estimate}) < 2
    ns = ["" if alike or e is None else f", n = {e.n:,}" for e in column]
    return [cell(estimate) + n for estimate, n in zip(column, ns, strict=True)]


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _pad(cell: str, width: int, left: bool) -> str:
    return cell.ljust(width) if left else cell.rjust(width)
