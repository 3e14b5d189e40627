"""What the rows say, in words: a report's opening, its findings and the choice it recommends. Pure.

Every sentence needs its data; without it the sentence is left out.
"""

from collections.abc import Callable, Sequence

from bench.analysis.pareto import AS_FAST, Budget, Choice, choose
from bench.analysis.rows import Row, machines, names, subject_name
from bench.analysis.stats import Estimate
from bench.record import Record
from bench.reporting import format as text
from bench.reporting.document import Block, Text

Number = Callable[[Row], float | None]


def opening(records: Sequence[Record], shown: Sequence[Row]) -> str:
    """What was measured, and what was not."""
    if not shown:
        return "Nothing was measured: every job failed or was skipped, for the reasons below."
    models = list(dict.fromkeys(row.subject.model for row in shown))
    kinds = len(machines(records))
    apart = (
        f" The records come from {kinds} different machines or software versions, which are never "
        "pooled."
    )
    return _scope(records, shown, models) + (apart if kinds > 1 else "")


def findings(own: Sequence[Row]) -> list[str]:
    """A sentence each about size, speed, accuracy and fidelity of one model's rows."""
    found = (_size(own), _speed(own), _accuracy(own), _fidelity(own))
    return [sentence for sentence in found if sentence]


def choice(own: Sequence[Row], budget: Budget | None) -> list[Block]:
    """The front, what fits, the one to take, and the rule by which it was found."""
    found = choose(own, budget)
    if len(found.candidates) < 2:
        return []
    scored = any(own[place].accuracy for place in found.candidates)
    parts = [_front(own, found, scored), _recommended(own, found, budget, scored)]
    return [Text(part) for part in parts]


def _front(own: Sequence[Row], found: Choice, scored: bool) -> str:
    labels, dropped = _labels(own), [p for p in found.candidates if p not in found.front]
    numbers = f"{'accuracy, ' if scored else ''}time of a request and peak memory"
    ahead = f"On the Pareto front of {numbers}: {text.listed([labels[p] for p in found.front])}."
    if not dropped:
        return f"{ahead} None of them is beaten in every respect."
    beaten = text.listed([labels[place] for place in dropped])
    return f"{ahead} Matched or beaten by one of those in every respect: {beaten}."


def _recommended(own: Sequence[Row], found: Choice, budget: Budget | None, scored: bool) -> str:
    labels = _labels(own)
    within = f"within {_limit(budget)}" if budget else ""
    if not scored:
        fitting = text.listed([labels[place] for place in found.fitting]) or "nothing"
        fits = f"{within[0].upper()}{within[1:]}: {fitting}. " if budget else ""
        return f"{fits}Nothing is recommended: without accuracy, the fastest may be the worst."
    if found.chosen is None:
        return f"**Nothing fits {within}**: the smallest peak is {_least(own, found)}."
    rule = (
        f"{'of those that stay ' + within + ' and' if budget else 'of those that'} are not shown "
        "to be less accurate than the best of them (McNemar's test at 5 %) and answer a request "
        f"within {100 * AS_FAST - 100:.0f} % of the fastest's time, the one with the lowest peak"
    )
    ask = "" if budget else " `--budget-mb` or `--profile` sets a limit of memory."
    return f"**Take {labels[found.chosen]}**: {rule}.{_as_fast(own, found)}{ask}"


def _limit(budget: Budget) -> str:
    size = text.megabytes(budget.memory_bytes)
    return size if budget.name == size else f"{budget.name} ({size})"


def _as_fast(own: Sequence[Row], found: Choice) -> str:
    """Which others' times cannot be told from the chosen one's."""
    chosen = own[found.chosen].total_s() if found.chosen is not None else None
    labels = _labels(own)
    close = [
        labels[place]
        for place in found.accurate
        if place != found.chosen
        and chosen is not None
        and (total := own[place].total_s()) is not None
        and _overlap(chosen, total)
    ]
    return f" Its time cannot be told from that of {text.listed(close)}." if close else ""


def _least(own: Sequence[Row], found: Choice) -> str:
    place = min(found.candidates, key=lambda p: own[p].counted_bytes or 0)
    return f"{text.megabytes(own[place].counted_bytes)} ({_labels(own)[place]})"


def _labels(own: Sequence[Row]) -> list[str]:
    return [f"{name} on {row.runtime}" for row, name in zip(own, names(own), strict=True)]


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
        f"{text.count(len(artifacts), 'artifact') + ' of ' if artifacts else ''}"
        f"{text.listed(marked)} on "
        f"{text.listed(runtimes)}: {text.count(done, 'job')} measured{lost}."
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
    least, most = text.percent(low[1].value), text.percent(high[1].value)
    if len(scored) == 1:
        row, share = low
        number = "a mean score of" if row.graded else "an accuracy of"
        return f"{_name(row)} has {number} {least} on {share.n:,} {row.main_task} questions."
    if least == most:
        return (
            f"All have {least} on the {low[0].main_task} questions asked: these do not tell them "
            "apart."
        )
    return (
        f"Accuracy on {low[0].main_task} lies between {least} ({_name(low[0])}) and {most} "
        f'({_name(high[0])}); what of that is more than chance is under "Accuracy side by side".'
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
