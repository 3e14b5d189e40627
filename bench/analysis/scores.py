"""Collects the scores of an artifact or checkpoint on each task, and compares two of them.

Shards, the parts of one sample of questions that separate runs answered, are merged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.analysis.paired import Change, graded_change, mcnemar, share_change
from bench.analysis.stats import Estimate, mean, proportion
from bench.options import Options
from bench.record import BadItem, Evaluation, Item, Record


@dataclass(frozen=True)
class Scores:
    """The scored answers of one artifact or checkpoint to the questions of one task.

    `items` are the answered questions, `bad` those that could not be asked or scored. `shards`
    names the merged parts (`1/4`), empty if the sample was answered in one run.
    """

    task: str
    options: Options
    items: tuple[Item, ...]
    bad: tuple[BadItem, ...]
    evaluations: tuple[Evaluation, ...]
    shards: tuple[str, ...]

    @property
    def graded(self) -> bool:
        """Whether an answer gets any score from 0 to 1, not only right or wrong."""
        return any(item.score is not None for item in self.items)

    def share(self) -> Estimate | None:
        """Returns the accuracy from 0 to 1 with its 95 % interval; None without items.

        It is the share of right answers, or the mean score if answers are graded.
        """
        if self.graded:
            return mean([item.value for item in self.items])
        return proportion(sum(item.correct for item in self.items), len(self.items))

    def correct(self) -> Mapping[str, bool]:
        """Returns, for each question id, whether the answer was right."""
        return {item.id: item.correct for item in self.items}

    def values(self) -> Mapping[str, float]:
        """Returns each question's score from 0 to 1 by its id."""
        return {item.id: item.value for item in self.items}

    def scorer(self) -> tuple[str, int] | None:
        """Returns the scorer's name and version; None for old records, which lack them."""
        found = [(e.scorer, e.scorer_version) for e in self.evaluations]
        return found[0] if found else None

    def sources(self) -> frozenset[str]:
        """Returns the data sets (name and version) that the questions are from.

        Equal ids of two Scores are the same question only if their sources are equal.
        """
        return frozenset(evaluation.source for evaluation in self.evaluations)

    def items_per_s(self) -> float | None:
        asked = sum(e.asked for e in self.evaluations)
        seconds = sum(e.asked_s for e in self.evaluations)
        return asked / seconds if asked and seconds else None


def scores_by_task(records: Sequence[Record]) -> tuple[Scores, ...]:
    """Merges shards and returns one Scores per task: of its samples, the one with the most items.

    Of samples of equal size, the last in `records` counts.
    """
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
    """Whether both have the same scorer and data, so that equal ids are the same questions."""
    return base.scorer() == new.scorer() and base.sources() == new.sources()


def shared_values(base: Scores, new: Scores) -> tuple[list[float], list[float]]:
    """Returns the scores of both on the questions that they have in common, in the same order."""
    before, after = base.values(), new.values()
    shared = [key for key in before if key in after]
    return [before[key] for key in shared], [after[key] for key in shared]


def score_change(base: Scores, new: Scores) -> Change | None:
    """Computes the change of accuracy, new minus base, on the questions in common.

    Graded scores get a bootstrap interval, right and wrong answers Agresti and Min's. None without
    common questions.
    """
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
