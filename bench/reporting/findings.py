"""Writes a report's opening sentence, and sentences with the main findings on each model."""

from collections.abc import Callable, Sequence

from bench.analysis.machines import machines
from bench.analysis.rows import Row, subject_name
from bench.record import Record
from bench.reporting import fmt

Number = Callable[[Row], float | None]


def opening(records: Sequence[Record], shown: Sequence[Row]) -> str:
    """Says how many jobs were measured, failed and skipped, and of which models and runtimes.

    `shown` are the results that the records were grouped into; empty if nothing was measured.
    """
    if not shown:
        return "Nothing was measured: every job failed or was skipped, for the reasons below."
    models = list(dict.fromkeys(row.subject.model for row in shown))
    kinds = len(machines(records))
    apart = (
        f" The records come from {kinds} different machines or software versions, which are never "
        "pooled."
    )
    return _scope(records, shown, models) + (apart if kinds > 1 else "")


def findings(rows: Sequence[Row]) -> list[str]:
    """Writes up to four sentences on one model: size, speed, accuracy, fidelity, where measured."""
    sentences = (_size(rows), _speed(rows), _accuracy(rows), _fidelity(rows))
    return [sentence for sentence in sentences if sentence]


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
        f"{fmt.count(len(artifacts), 'artifact') + ' of ' if artifacts else ''}"
        f"{fmt.listed(marked)} on "
        f"{fmt.listed(runtimes)}: {fmt.count(done, 'job')} measured{lost}."
    )


def _size(rows: Sequence[Row]) -> str:
    best, worst = _extremes(rows, lambda row: row.subject.disk_bytes)
    if best is None or worst is None:
        return ""
    small, large = best.subject.disk_bytes or 0, worst.subject.disk_bytes or 0
    return (
        f"The smallest artifact is {subject_name(best.subject)} with {fmt.megabytes(small)}, "
        f"{large / small:.1f} times smaller than {subject_name(worst.subject)} "
        f"({fmt.megabytes(large)})."
    )


def _speed(rows: Sequence[Row]) -> str:
    rated = [(row, rate) for row in rows if (rate := row.decode_tokens_per_s())]
    if not rated:
        return ""
    row, rate = max(rated, key=lambda pair: pair[1].value)
    first = row.first_token_s()
    wait = f", the first one after {fmt.milliseconds(first.value)}" if first else ""
    return f"{_name(row)} decodes fastest: {fmt.interval(rate)} tokens/s{wait}."


def _accuracy(rows: Sequence[Row]) -> str:
    scored = [(row, share) for row in rows if (share := row.accuracy_share())]
    if not scored:
        return ""
    low = min(scored, key=lambda pair: pair[1].value)
    high = max(scored, key=lambda pair: pair[1].value)
    least, most = fmt.percent(low[1].value), fmt.percent(high[1].value)
    if len(scored) == 1:
        row, share = low
        number = "a mean score of" if row.graded else "an accuracy of"
        return f"{_name(row)} has {number} {least} on {share.n:,} {row.main_task} questions."
    if least == most:
        return (
            f"All have {least} on the {low[0].main_task} questions, which therefore do not "
            "distinguish them."
        )
    return (
        f"Accuracy on {low[0].main_task} ranges from {least} ({_name(low[0])}) to {most} "
        f'({_name(high[0])}); "Accuracy compared" shows which differences exceed chance.'
    )


def _fidelity(rows: Sequence[Row]) -> str:
    compared = [(row, kld) for row in rows if (kld := row.kld())]
    if not compared:
        return ""
    row, kld = max(compared, key=lambda pair: pair[1].value)
    return (
        f"{_name(row)} is furthest from its reference: mean KL divergence "
        f"{fmt.interval(kld)} nats over {kld.n:,} tokens."
    )


def _extremes(rows: Sequence[Row], number: Number) -> tuple[Row | None, Row | None]:
    known = [row for row in rows if row.subject.target and number(row)]
    if len({row.subject.sha256 for row in known}) < 2:
        return None, None
    return min(known, key=lambda r: number(r) or 0), max(known, key=lambda r: number(r) or 0)


def _random(row: Row, model: str) -> bool:
    return row.subject.synthetic or row.subject.model != model


def _name(row: Row) -> str:
    return f"{subject_name(row.subject)} on {row.runtime}"
