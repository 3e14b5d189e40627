"""Builds a document from the comparison of two benchmark runs: verdict, regressions, table."""

from bench.analysis.compare import KLD_TOLERANCE_NATS, Compared, Comparison
from bench.analysis.rows import Row, subject_name
from bench.record import Subject
from bench.reporting import fmt
from bench.reporting.document import Block, Bullets, Heading, Table, Text, section
from bench.tasks.latency import request_name

MARKS = {"worse": "**worse**", "better": "better", "same": "same", "undecided": "undecided"}


def verdict(compared: Compared) -> list[Block]:
    """Builds the whole document on a comparison of two runs, with the verdict at the top.

    Then come the regressions, every compared quantity, what could not be compared, models of one
    name whose files differ, and the software versions that differ.
    """
    title = "Regression" if compared.regressed else "No regression"
    blocks: list[Block] = [Heading(1, title), Text(headline(compared))]
    blocks += [Bullets(worse(compared))] if compared.regressed else []
    blocks += section("Every quantity", _numbers(compared), level=2)
    apart = [f"{_who(subject, runtime)}: {what}" for subject, runtime, what in compared.apart]
    blocks += section("Not compared", [Bullets(apart)] if apart else [], level=2)
    for title, rows in (("Only in base", compared.only_base), ("Only in new", compared.only_new)):
        names = [_of(row) for row in rows]
        blocks += section(title, [Bullets(names)] if names else [], level=2)
    weights = [Bullets(compared.weights)] if compared.weights else []
    blocks += section("Models that differ", weights, level=2)
    software = [Bullets(compared.software)] if compared.software else []
    return blocks + section("Software that differs", software, level=2)


def headline(compared: Compared) -> str:
    """Says in one sentence how many quantities are worse, better, the same or undecided."""
    counts = {name: sum(c.verdict == name for c in compared.comparisons) for name in MARKS}
    parts = [f"{n} {name}" for name, n in counts.items() if n] or ["none compared"]
    lost = f"; {fmt.count(len(compared.lost), 'job')} now failing" if compared.lost else ""
    left = f"; {len(compared.apart)} left out, see below" if compared.apart else ""
    number = fmt.count(len(compared.comparisons), "quantity", "quantities")
    return f"Of {number}: {fmt.listed(parts)}{lost}{left}."


def worse(compared: Compared) -> list[str]:
    """Returns a line for each quantity that got worse, and for each job that fails only now.

    The line has the change and the probability of the verdict, or the reason of the failure.
    """
    numbers = [
        f"{_who(c.subject, c.runtime)}: {_number(compared, c)} {change(c)}, "
        f"probability {sureness(c)}"
        for c in compared.regressions
    ]
    failing = [(_who(r.case.subject, r.case.runtime), r) for r in compared.lost]
    return numbers + [f"{who}: {r.case.task} fails now: {r.reason}" for who, r in failing]


def change(comparison: Comparison) -> str:
    """Formats a change with its 95 % interval: `+12.0 % [+9.1, +15.0]`.

    Changes of accuracy are in percentage points, of KL divergence in nats. An interval too wide to
    be useful is replaced by `unsure`.
    """
    low, high = comparison.change.low, comparison.change.high
    kind = comparison.number.partition(",")[0]
    scale, digits, unit = (100, 1, " %") if comparison.relative else UNITS[kind]
    value = f"{scale * comparison.change.value:+.{digits}f}{unit}"
    if low is None or high is None or low == high:
        return value
    if comparison.change.unsure:
        return f"{value}, unsure"
    return f"{value} [{scale * low:+.{digits}f}, {scale * high:+.{digits}f}]"


UNITS = {"accuracy": (100, 2, " points"), "KLD": (1, 4, " nats")}


def sureness(comparison: Comparison) -> str:
    """Formats the probability that the verdict is right, in per cent.

    It is 100 % for a quantity that is counted, not measured; a dash if it is not known.
    """
    if comparison.sure is None:
        return "100 %" if comparison.change.low is not None else fmt.ABSENT
    return "over 99.9 %" if comparison.sure > 0.999 else f"{100 * comparison.sure:.1f} %"


def _numbers(compared: Compared) -> list[Block]:
    lines = [
        [
            f"{c.subject.model} {subject_name(c.subject)}",
            c.runtime,
            _number(compared, c),
            *(_value(c, value) for value in (c.base, c.new)),
            change(c),
            f"{c.change.n:,}",
            MARKS[c.verdict],
            sureness(c) if c.verdict != "undecided" else fmt.ABSENT,
        ]
        for c in compared.comparisons
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
    return [Table(header, lines, left=3), *_too_few(compared), Text(_rule(compared))]


def _too_few(compared: Compared) -> list[Block]:
    """Says how many questions a comparison needs if it had too few; [] if all had enough."""
    few = [c for c in compared.comparisons if c.needed is not None]
    if not few:
        return []
    needs = [f"{_who(c.subject, c.runtime)}, {c.number}: about {c.needed:,}" for c in few]
    what = f"a difference of {_asked(compared)} in accuracy"
    return [Text(f"Questions needed to detect {what}: {'; '.join(needs)}.")]


def _number(compared: Compared, one: Comparison) -> str:
    """Names the compared quantity, and the kind of request if the runs have several kinds."""
    request = f" ({request_name(one.options)})" if _several(compared) and one.options else ""
    return one.number + request


def _several(compared: Compared) -> bool:
    return len({c.options for c in compared.comparisons if c.options}) > 1


def _asked(compared: Compared) -> str:
    points = 100 * compared.points
    return f"{points:g} point{'' if points == 1 else 's'}"


def _rule(compared: Compared) -> str:
    limit = f"{100 * compared.tolerance:g} %"
    return (
        f"Worse or better: the whole 95 % interval is beyond the tolerance of {limit} (accuracy "
        f"{_asked(compared)}, KLD {KLD_TOLERANCE_NATS:g} nats). Same: the whole interval is within "
        "the tolerance. Undecided: it is neither; more rounds or questions would decide it. "
        "Unsure: the interval spans more than a factor of ten. n counts processes for time and "
        "memory (Student's t on log medians, paired if rounds were interleaved), questions for "
        "accuracy (Agresti and Min's interval, McNemar's exact test), tokens for KLD (paired "
        "bootstrap)."
    )


def _value(comparison: Comparison, value: float) -> str:
    if comparison.number in ("peak memory", "size on disk"):
        return fmt.megabytes(value)
    if comparison.number.startswith("accuracy"):
        return fmt.percent(value)
    if comparison.number == "KLD":
        return fmt.significant(value)
    return f"{fmt.significant(value)}/s" if comparison.worse_sign < 0 else fmt.milliseconds(value)


def _of(row: Row) -> str:
    return _who(row.subject, row.runtime)


def _who(subject: Subject, runtime: str) -> str:
    return f"{subject.model} {subject_name(subject)} on {runtime}"
