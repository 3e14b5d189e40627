"""Compares two benchmark runs of one machine; verdicts come from 95 % intervals, not from means."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.analysis.machines import hardware_differences, machines, software_differences
from bench.analysis.namesakes import namesakes, other_weights, told_apart
from bench.analysis.paired import Change, exact, interleaved, mcnemar, mean_change, power, ratio
from bench.analysis.rows import LatencyRecords, Row, rows
from bench.analysis.scores import Scores, comparable, score_change, shared_values
from bench.measure import Timing
from bench.options import Options
from bench.record import Record, Subject
from bench.tasks import is_latency
from export.errors import UserError

Verdict = Literal["worse", "better", "same", "undecided"]
TOLERANCE = 0.05
ACCURACY_TOLERANCE = 0.01
KLD_TOLERANCE_NATS = 0.001
SURE = 0.05
Key = tuple[object, ...]


@dataclass(frozen=True)
class Comparison:
    """One quantity of one artifact or checkpoint on one runtime, measured in both runs.

    `number` names the quantity, `options` is the kind of request. `base` and `new` are in seconds,
    tokens per second, bytes, nats or a share. `change` is a share of base if `relative`, else a
    difference. `worse_sign` is +1 if more is worse, −1 if less is. `sure` is the probability that
    the verdict is right (of `undecided`: that it is worse); None where nothing is random. `needed`
    is how many questions would detect the tolerance of accuracy; None: there were enough.
    """

    subject: Subject
    runtime: str
    number: str
    options: Options | None
    base: float
    new: float
    change: Change
    relative: bool
    worse_sign: int
    verdict: Verdict
    sure: float | None
    needed: int | None = None


@dataclass(frozen=True)
class Compared:
    """The comparison of two runs.

    `lost` are jobs that succeeded in base and fail in new, which count as regressions. `only_base`
    and `only_new` are results that one run lacks; `apart` has what both have but cannot be
    compared, as subject, runtime and reason. `software` lists differing versions as text.
    `tolerance` is the relative change that counts as none, `points` that of accuracy.
    """

    comparisons: tuple[Comparison, ...]
    lost: tuple[Record, ...]
    apart: tuple[tuple[Subject, str, str], ...]
    """Artifact or checkpoint, runtime, and which measurement cannot be compared and why."""
    only_base: tuple[Row, ...]
    only_new: tuple[Row, ...]
    software: tuple[str, ...]
    weights: tuple[str, ...]
    """Models whose files differ between the runs, and the first file that does."""
    tolerance: float
    points: float
    """Tolerance of accuracy as a difference of shares: 0.01 is one point."""

    @property
    def regressions(self) -> tuple[Comparison, ...]:
        return tuple(found for found in self.comparisons if found.verdict == "worse")

    @property
    def regressed(self) -> bool:
        return bool(self.regressions or self.lost)


def compare(
    base: Sequence[Record],
    new: Sequence[Record],
    tolerance: float = TOLERANCE,
    points: float = ACCURACY_TOLERANCE,
) -> Compared:
    """Compares the results of two runs on all subjects and runtimes that both have.

    Changes within `tolerance` (a share of base) and, for accuracy, `points` (a difference of
    shares) count as the same. Raises UserError if the runs are of different machines or have
    nothing in common.
    """
    _check_machines(base, new)
    several = namesakes(base) | namesakes(new)
    base, new = told_apart(base, several), told_apart(new, several)
    before, after = _last_rows(base), _last_rows(new)
    shared = [key for key in before if key in after]
    lost = _lost(before, new)
    if not shared and not lost:
        raise UserError(
            "nothing is measured in both runs; compare runs of the same models, recipes and "
            "runtimes"
        )
    comparisons = [c for key in shared for c in _row(before[key], after[key], tolerance, points)]
    return Compared(
        tuple(comparisons),
        tuple(lost),
        tuple(
            (after[key].subject, after[key].runtime, what)
            for key in shared
            for what in _apart(before[key], after[key])
        ),
        tuple(row for key, row in before.items() if key not in after),
        tuple(row for key, row in after.items() if key not in before),
        tuple(software_differences(base[-1].environment, new[-1].environment)),
        tuple(other_weights((before[key].subject, after[key].subject) for key in shared)),
        tolerance,
        points,
    )


def decide(change: Change, worse_sign: int, tolerance: float) -> tuple[Verdict, float | None]:
    """Decides whether a change is worse, better, the same or undecided.

    The first three need the whole 95 % interval beyond or within the tolerance. `worse_sign` is +1
    if more is worse, −1 if less is. Returns the verdict and its probability (of `undecided`: the
    probability of being worse); None without an interval.
    """
    worse = change.beyond(worse_sign * tolerance, worse_sign)
    better = change.beyond(-worse_sign * tolerance, -worse_sign)
    if change.low is None or change.high is None or worse is None or better is None:
        return "undecided", None
    mildest, gravest = sorted((worse_sign * change.low, worse_sign * change.high))
    if mildest > tolerance:
        return "worse", worse
    if gravest < -tolerance:
        return "better", better
    if mildest >= -tolerance and gravest <= tolerance:
        return "same", 1 - worse - better
    return "undecided", worse


@dataclass(frozen=True)
class _Measure:
    """A quantity read from a request's timing; `worse_sign` is +1 if more is worse, else −1."""

    of: Callable[[Timing], float | None]
    worse_sign: int


LATENCIES: Mapping[str, _Measure] = {
    "first token": _Measure(lambda timing: timing.first_token_s, 1),
    "decode rate": _Measure(lambda timing: timing.decode_tokens_per_s, -1),
    "whole request": _Measure(lambda timing: timing.total_s, 1),
}


def _row(base: Row, new: Row, tolerance: float, points: float) -> list[Comparison]:
    """Compares all quantities of one artifact on one runtime that both runs have."""
    comparisons: list[Comparison | None] = []
    latencies = {latency.options: latency for latency in new.latencies}
    for before in base.latencies:
        after = latencies.get(before.options)
        if after is not None:
            comparisons += [_latency(new, name, before, after, tolerance) for name in LATENCIES]
            comparisons.append(_memory(new, before, after, tolerance))
    comparisons += [_size(base, new, tolerance), *_accuracies(base, new, points), _kld(base, new)]
    return [comparison for comparison in comparisons if comparison is not None]


def _latency(
    row: Row, name: str, before: LatencyRecords, after: LatencyRecords, tolerance: float
) -> Comparison | None:
    measure = LATENCIES[name]
    base, new = before.middle(measure.of), after.middle(measure.of)
    paired = interleaved(before.started(), after.started())
    change = ratio(before.rounds(measure.of), after.rounds(measure.of), paired)
    if base is None or new is None or change is None:
        return None
    verdict, sure = decide(change, measure.worse_sign, tolerance)
    identity = (row.subject, row.runtime, name, before.options)
    return Comparison(*identity, base, new, change, True, measure.worse_sign, verdict, sure)


def _memory(
    row: Row, before: LatencyRecords, after: LatencyRecords, tolerance: float
) -> Comparison | None:
    base, new = before.peaks(), after.peaks()
    change = ratio([[peak] for peak in base], [[peak] for peak in new], paired=False)
    if change is None:
        return None
    verdict, sure = decide(change, 1, tolerance)
    identity = (row.subject, row.runtime, "peak memory", before.options)
    return Comparison(*identity, max(base), max(new), change, True, 1, verdict, sure)


def _size(base: Row, new: Row, tolerance: float) -> Comparison | None:
    before, after = base.subject.disk_bytes, new.subject.disk_bytes
    if not before or not after:
        return None
    change = exact(before, after)
    verdict, _ = decide(change, 1, tolerance)
    identity = (new.subject, new.runtime, "size on disk", None)
    return Comparison(*identity, before, after, change, True, 1, verdict, None)


def _accuracies(base: Row, new: Row, points: float) -> list[Comparison | None]:
    """Compares the accuracy on each task, on common questions that the same scorer scored."""
    shared = [
        (before, after)
        for before in base.scores
        if (after := new.of_task(before.task)) and comparable(before, after)
    ]
    several = len({scores.task for row in (base, new) for scores in row.scores}) > 1
    return [
        _accuracy(new, f"accuracy, {before.task}" if several else "accuracy", before, after, points)
        for before, after in shared
    ]


def _apart(base: Row, new: Row) -> list[str]:
    """Lists what cannot be compared, with the reason: requests or questions differ."""
    options = [{latency.options for latency in row.latencies} for row in (base, new)]
    reasons = ["time and memory: the requests differ"] if options[0] ^ options[1] else []
    for task in dict.fromkeys(scores.task for row in (base, new) for scores in row.scores):
        before, after = base.of_task(task), new.of_task(task)
        if before is None or after is None:
            reasons.append(f"accuracy on {task}: only in {'new' if before is None else 'base'}")
        elif not comparable(before, after):
            reasons.append(f"accuracy on {task}: the questions or the scorer differ")
        elif not shared_values(before, after)[0]:
            reasons.append(f"accuracy on {task}: no common questions")
    return [*reasons, *_kld_apart(base, new)]


def _kld_apart(base: Row, new: Row) -> list[str]:
    """Says why KL divergences cannot be compared; [] if they can, or if there are none."""
    if base.fidelity is None and new.fidelity is None:
        return []
    if base.fidelity is None or new.fidelity is None:
        return [f"KLD: only in {'new' if base.fidelity is None else 'base'}"]
    if base.fidelity.case.options != new.fidelity.case.options:
        return ["KLD: the questions differ"]
    return [] if _same_reference(base, new) else ["KLD: the references differ"]


def _same_reference(base: Row, new: Row) -> bool:
    """Whether both were compared with the model that each was exported from, or with the same."""
    if not (base.fidelity and new.fidelity and base.agreement and new.agreement):
        return False
    own = base.agreement.other is None and new.agreement.other is None
    return own or base.fidelity.case.reference == new.fidelity.case.reference


def _accuracy(row: Row, number: str, base: Scores, new: Scores, points: float) -> Comparison | None:
    before, after = shared_values(base, new)
    change = score_change(base, new)
    if change is None:
        return None
    verdict, sure = decide(change, -1, points)
    pair = mcnemar(base.correct(), new.correct())
    if verdict in ("worse", "better") and not base.graded and pair is not None and pair.p > SURE:
        verdict = "undecided"  # the exact test decides where questions are few
    share, new_share = (sum(values) / len(values) for values in (before, after))
    identity = (row.subject, row.runtime, number, None)
    asked = power(before, after)
    enough = asked.needed(points)
    needed = enough if enough > asked.n else None
    return Comparison(*identity, share, new_share, change, False, -1, verdict, sure, needed)


def _kld(base: Row, new: Row) -> Comparison | None:
    """Compares mean KL divergence, paired by token; None unless both had the same questions."""
    if not (base.agreement and new.agreement) or _kld_apart(base, new):
        return None
    before, after = base.kld(), new.kld()
    change = mean_change(base.agreement.token_kld, new.agreement.token_kld)
    if change is None or before is None or after is None:
        return None
    verdict, sure = decide(change, 1, KLD_TOLERANCE_NATS)
    identity = (new.subject, new.runtime, "KLD", None)
    return Comparison(*identity, before.value, after.value, change, False, 1, verdict, sure)


def _check_machines(base: Sequence[Record], new: Sequence[Record]) -> None:
    """Raises UserError if a run has no records, or if not all records are of one machine."""
    for name, records in (("the base run", base), ("the new run", new)):
        if not records:
            raise UserError(f"{name} has no records; `bench run -o RUN.jsonl` writes them")
        for other in machines(records):
            differences = hardware_differences(records[0].environment, other)
            if differences:
                raise UserError(f"{name} is of more than one machine ({'; '.join(differences)})")
    differences = hardware_differences(base[0].environment, new[0].environment)
    if differences:
        raise UserError(
            f"these runs are of different machines ({'; '.join(differences)}); measure both on one"
        )


def _last_rows(records: Sequence[Record]) -> dict[Key, Row]:
    """Returns a run's results by model, target, recipe, layout, runtime and setting, not by sha256.

    So a new version of an artifact is found under the old one's key. If a run has several, the
    last one counts.
    """
    return {_key(row.subject, row.runtime, *_held(row)): row for row in rows(records)}


def _lost(before: Mapping[Key, Row], new: Sequence[Record]) -> list[Record]:
    """Returns jobs that succeed in the base run but fail in the new one, in all its tries."""
    lost: dict[tuple[Key, str], Record] = {}
    for record in new:
        case = record.case
        key = _key(case.subject, case.runtime, case.device, case.threads, case.profile)
        if record.status == "failed" and key in before and case.task in _tasks(before[key]):
            lost.setdefault((key, case.task), record)
        elif record.status == "ok" and not is_latency(case.task):
            lost.pop((key, case.task), None)  # a later try succeeded
    return list(lost.values())


def _tasks(row: Row) -> set[str]:
    latencies = [record for latency in row.latencies for record in latency.records]
    records = [*latencies, *([row.fidelity] if row.fidelity else [])]
    return {record.case.task for record in records} | {scores.task for scores in row.scores}


def _held(row: Row) -> tuple[str, int, str | None]:
    return row.device, row.threads, row.profile


def _key(subject: Subject, runtime: str, device: str, threads: int, profile: str | None) -> Key:
    what = (subject.model, subject.synthetic, subject.target, subject.recipe, subject.layout)
    return (*what, runtime, device, threads, profile)
