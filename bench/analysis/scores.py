"""From records to the scores of one subject on each task; shards of a sample are put together.

NOT aware of text, plots or of other subjects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.analysis.paired import Change, graded_change, mcnemar, share_change
from bench.analysis.stats import Estimate, mean, proportion
from bench.options import Options
from bench.record import BadItem, Evaluation, Item, Record


@dataclass(frozen=True)
class Scores:
    """A task's items on one row: those of one record, or of several shards put together."""

    task: str
    options: Options
    items: tuple[Item, ...]
    bad: tuple[BadItem, ...]
    evaluations: tuple[Evaluation, ...]
    shards: tuple[str, ...]

    @property
    def graded(self) -> bool:
        """Whether its scores are grades between 0 and 1."""
        return any(item.score is not None for item in self.items)

    def share(self) -> Estimate | None:
        """The mean score: a proportion of right answers, or (bootstrapped) of graded ones."""
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
        """Its name and version; None in records that are older than scorers."""
        found = [(e.scorer, e.scorer_version) for e in self.evaluations]
        return found[0] if found else None

    def sources(self) -> frozenset[str]:
        """Where the questions come from: items of equal ids are the same ones only there."""
        return frozenset(evaluation.source for evaluation in self.evaluations)

    def items_per_s(self) -> float | None:
        asked = sum(e.asked for e in self.evaluations)
        seconds = sum(e.asked_s for e in self.evaluations)
        return asked / seconds if asked and seconds else None


def scores_by_task(records: Sequence[Record]) -> tuple[Scores, ...]:
    """Of each task the most items, the last of equal ones. Shards of one sample belong together."""
    group = [record for record in records if record.outcome.items]
    # A whole sample and its shards are not added up.
    samples: dict[tuple[str, Options, bool], dict[str | None, Record]] = {}
    for record in group:
        options = record.case.options
        key = (record.case.task, replace(options, shard=None), options.shard is None)
        shards = samples.setdefault(key, {})
        shards.pop(options.shard, None)  # asked again, it is the last one
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
    """Both sides' scores of the items that both have, in one order."""
    before, after = base.values(), new.values()
    shared = [key for key in before if key in after]
    return [before[key] for key in shared], [after[key] for key in shared]


def score_change(base: Scores, new: Scores) -> Change | None:
    """Of the mean score on shared items; of graded ones by bootstrap."""
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
