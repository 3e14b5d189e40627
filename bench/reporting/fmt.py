"""Formats numbers, lists and tables as text; None becomes a dash."""

from collections.abc import Callable, Mapping, Sequence

from bench.analysis.stats import Estimate

ABSENT = "–"


def significant(value: float | None, digits: int = 3) -> str:
    """Rounds to `digits` significant digits, keeping all digits before the point: 0.0123, 12,346.

    Below 1e-4 and from 1e6 on it writes an exponent.
    """
    if value is None:
        return ABSENT
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}".replace("e-0", "e-")
    text = f"{value:#.{digits}g}".rstrip(".")
    return f"{value:,.0f}" if "e" in text or abs(value) >= 10 ** (digits - 1) else text


def megabytes(value: float | None) -> str:
    """Formats a number of bytes in MB of 10^6 bytes: 1500000 is `1.50 MB`."""
    return ABSENT if value is None else f"{significant(value / 1e6)} MB"


def milliseconds(value: float | None) -> str:
    """Formats a number of seconds in milliseconds: 0.0123 is `12.3 ms`."""
    return ABSENT if value is None else f"{significant(value * 1e3)} ms"


def percent(value: float | None) -> str:
    """Formats a share (1 is the whole) in per cent: 0.123 is `12.3 %`."""
    return ABSENT if value is None else f"{100 * value:.1f} %"


def interval(estimate: Estimate | None, scale: float = 1.0, digits: int = 3) -> str:
    """Formats an estimate, times `scale`: `value [low, high]`, or `value` if it has no interval."""
    if estimate is None:
        return ABSENT
    value = significant(estimate.value * scale, digits)
    if estimate.low is None or estimate.high is None:
        return value
    low, high = (significant(bound * scale, digits) for bound in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def share(estimate: Estimate | None) -> str:
    """Formats a share (1 is the whole) with its interval: `50.0 % [40.4, 59.6], n = 100`."""
    n = f", n = {estimate.n:,}" if estimate else ""
    return _share(estimate) + n


def intervals(column: Sequence[Estimate | None], scale: float = 1.0) -> list[str]:
    """Formats each cell of a column as `value [low, high]`, and adds n if n differs among them."""
    return _counted(column, lambda estimate: interval(estimate, scale))


def shares(column: Sequence[Estimate | None]) -> list[str]:
    """Formats each share (1 is the whole) of a column in per cent; adds n if the n differ."""
    return _counted(column, _share)


def change(value: float) -> str:
    """Formats a relative change in per cent, always with its sign: 0.05 is `+5.0 %`."""
    return f"{100 * value:+.1f} %"


def listed(words: Sequence[str]) -> str:
    """Joins words to an English list: `a, b and c`."""
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def count(n: int, noun: str, plural: str | None = None) -> str:
    """Writes a number with its noun: `1 job`, `2 jobs`. Without `plural`, an s is added."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Writes a markdown table, padded so that it is also readable as plain text.

    The first `left` columns are aligned left, the others right.
    """
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
    """Removes columns whose cells are all dashes; the first `left` columns always stay.

    Returns the header and the rows that remain.
    """
    kept = [n for n in range(len(header)) if n < left or any(row[n] != ABSENT for row in rows)]
    return [header[n] for n in kept], [[row[n] for n in kept] for row in rows]


def plain(value: object) -> str:
    """Writes a JSON value in a few words; a list of more than three values becomes its length."""
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


def in_bytes(text: str) -> bytes:
    """Returns a page in UTF-8; "?" for half of a surrogate pair, which names in JSON may hold."""
    return text.encode(errors="replace")
