"""Writes a comparison of two runs as a document: verdict, regressions, and a table."""

from bench.analysis.compare import KLD_TOLERANCE_NATS, Compared, Comparison
from bench.analysis.rows import Row, subject_name
from bench.record import Subject
from bench.reporting import fmt
from bench.reporting.document import Block, Bullets, Heading, Table, Text, section
from bench.tasks.latency import request_name

MARKS = {"worse": "**worse**", "better": "better", "same": "same", "undecided": "undecided"}


def verdict(found: Compared) -> list[Block]:
    """The verdict first, then each quantity, then what was not compared and what else differs."""
    title = "Regression" if found.regressed else "No regression"
    blocks: list[Block] = [Heading(1, title), Text(headline(found))]
    blocks += [Bullets(worse(found))] if found.regressed else []
    blocks += section("Every quantity", _numbers(found), level=2)
    apart = [f"{_who(subject, runtime)}: {what}" for subject, runtime, what in found.apart]
    blocks += section("Not compared", [Bullets(apart)] if apart else [], level=2)
    for title, rows in (("Only in base", found.only_base), ("Only in new", found.only_new)):
        names = [_of(row) for row in rows]
        blocks += section(title, [Bullets(names)] if names else [], level=2)
    software = [Bullets(found.software)] if found.software else []
    return blocks + section("Software that differs", software, level=2)


def headline(found: Compared) -> str:
    """One sentence: how many quantities are worse, better, the same or undecided."""
    counts = {name: sum(c.verdict == name for c in found.comparisons) for name in MARKS}
    parts = [f"{n} {name}" for name, n in counts.items() if n] or ["none compared"]
    lost = f"; {fmt.count(len(found.lost), 'job')} now failing" if found.lost else ""
    left = f"; {len(found.apart)} left out, see below" if found.apart else ""
    number = fmt.count(len(found.comparisons), "quantity", "quantities")
    return f"Of {number}: {fmt.listed(parts)}{lost}{left}."


def worse(found: Compared) -> list[str]:
    """Each regression: by how much, and with which probability."""
    numbers = [
        f"{_who(c.subject, c.runtime)}: {_number(found, c)} {change(c)}, probability {sureness(c)}"
        for c in found.regressions
    ]
    failing = [(_who(r.case.subject, r.case.runtime), r) for r in found.lost]
    return numbers + [f"{who}: {r.case.task} fails now: {r.reason}" for who, r in failing]


def change(found: Comparison) -> str:
    """`+12.0 % [+9.1, +15.0]`, in points for accuracy, in nats for KLD; `unsure` if too wide."""
    low, high = found.change.low, found.change.high
    kind = found.number.partition(",")[0]
    scale, digits, unit = (100, 1, " %") if found.relative else UNITS[kind]
    value = f"{scale * found.change.value:+.{digits}f}{unit}"
    if low is None or high is None or low == high:
        return value
    if found.change.unsure:
        return f"{value}, unsure"
    return f"{value} [{scale * low:+.{digits}f}, {scale * high:+.{digits}f}]"


UNITS = {"accuracy": (100, 2, " points"), "KLD": (1, 4, " nats")}


def sureness(found: Comparison) -> str:
    """The verdict's probability; that of a counted quantity is 100 %."""
    if found.sure is None:
        return "100 %" if found.change.low is not None else fmt.ABSENT
    return "over 99.9 %" if found.sure > 0.999 else f"{100 * found.sure:.1f} %"


def _numbers(found: Compared) -> list[Block]:
    lines = [
        [
            f"{c.subject.model} {subject_name(c.subject)}",
            c.runtime,
            _number(found, c),
            *(_value(c, value) for value in (c.base, c.new)),
            change(c),
            f"{c.change.n:,}",
            MARKS[c.verdict],
            sureness(c) if c.verdict != "undecided" else fmt.ABSENT,
        ]
        for c in found.comparisons
    ]
    if not lines:
        return []
    header = [
        "artifact",
        "runtime",
        "quantity",
        "base",
        "new",
        "change",
        "n",
        "verdict",
        "probability",
    ]
    return [Table(header, lines, left=3), *_too_few(found), Text(_rule(found))]


def _too_few(found: Compared) -> list[Block]:
    """How many questions each comparison lacks; [] if all have enough."""
    few = [c for c in found.comparisons if c.needed is not None]
    if not few:
        return []
    needs = [f"{_who(c.subject, c.runtime)}, {c.number}: about {c.needed:,}" for c in few]
    what = f"a difference of {_asked(found)} in accuracy"
    return [Text(f"Questions needed to detect {what}: {'; '.join(needs)}.")]


def _number(found: Compared, one: Comparison) -> str:
    """The quantity, with its request if there are several."""
    request = f" ({request_name(one.options)})" if _several(found) and one.options else ""
    return one.number + request


def _several(found: Compared) -> bool:
    return len({c.options for c in found.comparisons if c.options}) > 1


def _asked(found: Compared) -> str:
    points = 100 * found.points
    return f"{points:g} point{'' if points == 1 else 's'}"


def _rule(found: Compared) -> str:
    limit = f"{100 * found.tolerance:g} %"
    return (
        f"Worse or better: the whole 95 % interval is beyond the tolerance of {limit} (accuracy "
        f"{_asked(found)}, KLD {KLD_TOLERANCE_NATS:g} nats). Same: the whole interval is within "
        "the tolerance. Undecided: it is neither; more rounds or questions would decide it. "
        "Unsure: the interval spans more than a factor of ten. n counts processes for time and "
        "memory (Student's t on log medians, paired if rounds were interleaved), questions for "
        "accuracy (Agresti and Min's interval, McNemar's exact test), tokens for KLD (paired "
        "bootstrap)."
    )


def _value(found: Comparison, value: float) -> str:
    if found.number in ("peak memory", "size on disk"):
        return fmt.megabytes(value)
    if found.number.startswith("accuracy"):
        return fmt.percent(value)
    if found.number == "KLD":
        return fmt.significant(value)
    return f"{fmt.significant(value)}/s" if found.worse_sign < 0 else fmt.milliseconds(value)


def _of(row: Row) -> str:
    return _who(row.subject, row.runtime)


def _who(subject: Subject, runtime: str) -> str:
    return f"{subject.model} {subject_name(subject)} on {runtime}"
