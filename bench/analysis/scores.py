"""Scores of a subject on each task, with the shards of a sample merged; comparison of two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.analysis.paired import Change, graded_change, mcnemar, share_change
from bench.analysis.stats import Estimate, mean, proportion
from bench.options import Options
from bench.record import BadItem, Evaluation, Item, Record


@dataclass(frozen=True)
class Scores:
    """Scored items of one task, of one record or of several merged shards."""

    task: str
    options: Options
    items: tuple[Item, ...]
    bad: tuple[BadItem, ...]
    evaluations: tuple[Evaluation, ...]
    shards: tuple[str, ...]

    @property
    def graded(self) -> bool:
        """Whether scores lie between 0 and 1, instead of right or wrong."""
        return any(item.score is not None for item in self.items)

    def share(self) -> Estimate | None:
        """Accuracy: the share of right answers, or the mean of graded scores (bootstrapped)."""
        if self.graded:
            return mean([item.value for item in self.items])
        return proportion(sum(item.correct for item in self.items), len(self.items))

    def correct(self) -> Mapping[str, bool]:
        """Whether each question was answered rightly."""
        return {item.id: item.correct for item in self.items}

    def values(self) -> Mapping[str, float]:
        """Each question's score."""
        return {item.id: item.value for item in self.items}

    def scorer(self) -> tuple[str, int] | None:
        """Name and version; None in records older than scorers."""
        found = [(e.scorer, e.scorer_version) for e in self.evaluations]
        return found[0] if found else None

    def sources(self) -> frozenset[str]:
        """Sources of the questions; equal ids are the same question only in equal sources."""
        return frozenset(evaluation.source for evaluation in self.evaluations)

    def items_per_s(self) -> float | None:
        asked = sum(e.asked for e in self.evaluations)
        seconds = sum(e.asked_s for e in self.evaluations)
        return asked / seconds if asked and seconds else None


def scores_by_task(records: Sequence[Record]) -> tuple[Scores, ...]:
    """For each task the scores with the most items, the last among equals; shards are merged."""
    group = [record for record in records if record.outcome.items]
    # A whole sample is not merged with its shards.
    samples: dict[tuple[str, Options, bool], dict[str | None, Record]] = {}
    for record in group:
        options = record.case.options
        key = (record.case.task, replace(options, shard=None), options.shard is None)
        shards = samples.setdefault(key, {})
        shards.pop(options.shard, None)  # a repeated shard replaces the earlier one
        shards[options.shard] = record
    found: dict[str, Scores] = {}
    for (task, options, _), shards in samples.items():
        merged = _merged(task, options, list(shards.values()))
        if task not in found or len(merged.items) >= len(found[task].items):
            found[task] = merged
    return tuple(found.values())


def comparable(base: Scores, new: Scores) -> bool:
    """Whether equal ids are the same questions, scored in the same way."""
    return base.scorer() == new.scorer() and base.sources() == new.sources()


def shared_values(base: Scores, new: Scores) -> tuple[list[float], list[float]]:
    """Scores of both on their common items, in the same order."""
    before, after = base.values(), new.values()
    shared = [key for key in before if key in after]
    return [before[key] for key in shared], [after[key] for key in shared]


def score_change(base: Scores, new: Scores) -> Change | None:
    """Change of accuracy on common items, by bootstrap if scores are graded; None without any."""
    if base.graded or new.graded:
        return graded_change(*shared_values(base, new))
    pair = mcnemar(base.correct(), new.correct())
    return share_change(pair) if pair else None


def _merged(task: str, options: Options, records: Sequence[Record]) -> Scores:
    evaluations = tuple(e for r in records if (e := r.outcome.evaluation) is not None)
    items = {item.id: item for record in records for item in record.outcome.items}
    bad = {item.id: item for evaluation in evaluations for item in evaluation.bad}
    shards = tuple(shard for r in records if (shard := r.case.options.shard) is not None)
    return Scores(task, options, tuple(items.values()), tuple(bad.values()), evaluations, shards)
