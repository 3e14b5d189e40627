"""A report's first paragraph: what the rows say, in words. Pure.

Every sentence needs its data; without it the sentence is left out.
"""

from collections.abc import Callable, Sequence

from bench import format as text
from bench.record import Record
from bench.stats import Estimate
from bench.summary import Row, subject_name

Number = Callable[[Row], float | None]


def paragraph(records: Sequence[Record], shown: Sequence[Row]) -> str:
    """One paragraph about all rows."""
    if not shown:
        return "Nothing was measured: every job failed or was skipped, for the reasons below."
    models = list(dict.fromkeys(row.subject.model for row in shown))
    sentences = [_scope(records, shown, models)]
    for model in models:
        own = [row for row in shown if row.subject.model == model]
        found = [_size(own), _speed(own), _accuracy(own), _fidelity(own)]
        about = " ".join(sentence for sentence in found if sentence)
        lead = f"**{model}**: " if len(models) > 1 and about else ""
        sentences.append(lead + about)
    return " ".join(sentence for sentence in sentences if sentence)


def _scope(records: Sequence[Record], shown: Sequence[Row], models: Sequence[str]) -> str:
    artifacts = {row.subject.sha256 for row in shown if row.subject.target}
    runtimes = list(dict.fromkeys(row.runtime for row in shown))
    marked = [
        f"{model} (random weights)" if all(_random(row, model) for row in shown) else model
        for model in models
    ]
    done = sum(record.status == "ok" for record in records)
    failed = sum(record.status == "failed" for record in records)
    skipped = sum(record.status == "skipped" for record in records)
    lost = (f", {failed} failed" if failed else "") + (f", {skipped} skipped" if skipped else "")
    return (
        f"{_count(len(artifacts), 'artifact') + ' of ' if artifacts else ''}"
        f"{_listed(marked)} on "
        f"{_listed(runtimes)}: {_count(done, 'job')} measured{lost}."
    )


def _size(own: Sequence[Row]) -> str:
    best, worst = _extremes(own, lambda row: row.subject.disk_bytes)
    if best is None or worst is None:
        return ""
    small, large = best.subject.disk_bytes or 0, worst.subject.disk_bytes or 0
    return (
        f"The smallest is {subject_name(best.subject)} with {text.megabytes(small)}, "
        f"{large / small:.1f} times smaller than {subject_name(worst.subject)} "
        f"({text.megabytes(large)})."
    )


def _speed(own: Sequence[Row]) -> str:
    rated = [(row, rate) for row in own if (rate := row.decode_tokens_per_s())]
    if not rated:
        return ""
    row, rate = max(rated, key=lambda pair: pair[1].value)
    first = row.first_token_s()
    wait = f" after {text.milliseconds(first.value)} to the first token" if first else ""
    return f"{_name(row)} decodes fastest: {text.interval(rate)} tokens/s{wait}."


def _accuracy(own: Sequence[Row]) -> str:
    scored = [(row, share) for row in own if (share := row.accuracy_share())]
    if not scored:
        return ""
    low = min(scored, key=lambda pair: pair[1].value)
    high = max(scored, key=lambda pair: pair[1].value)
    if len(scored) == 1:
        (row, share), percent = low, text.percent(low[1].value)
        return f"{_name(row)} answers {percent} of {share.n:,} easy-VQA questions correctly."
    verdict = (
        "their 95 % intervals overlap" if _overlap(low[1], high[1]) else "more than chance explains"
    )
    return (
        f"Accuracy on easy-VQA lies between {text.percent(low[1].value)} ({_name(low[0])}) and "
        f"{text.percent(high[1].value)} ({_name(high[0])}); {verdict}."
    )


def _fidelity(own: Sequence[Row]) -> str:
    compared = [(row, kld) for row in own if (kld := row.kld())]
    if not compared:
        return ""
    row, kld = max(compared, key=lambda pair: pair[1].value)
    return (
        f"{_name(row)} is furthest from its reference: mean KL divergence "
        f"{text.interval(kld)} nats over {kld.n:,} tokens."
    )


def _extremes(own: Sequence[Row], number: Number) -> tuple[Row | None, Row | None]:
    known = [row for row in own if row.subject.target and number(row)]
    if len({row.subject.sha256 for row in known}) < 2:
        return None, None
    return min(known, key=lambda r: number(r) or 0), max(known, key=lambda r: number(r) or 0)


def _overlap(first: Estimate, second: Estimate) -> bool:
    bounds = (first.low, first.high, second.low, second.high)
    if None in bounds:
        return True
    low_1, high_1, low_2, high_2 = (bound or 0.0 for bound in bounds)
    return low_1 <= high_2 and low_2 <= high_1


def _random(row: Row, model: str) -> bool:
    return row.subject.synthetic or row.subject.model != model


def _name(row: Row) -> str:
    return f"{subject_name(row.subject)} on {row.runtime}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
