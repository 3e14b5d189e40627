"""Builds a report's tables of accuracy: by task, by subset, compared, and unusable questions.

Each function takes the Rows of one model (a Row: the results of one artifact on one runtime).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.paired import Change, mcnemar, power
from bench.analysis.rows import Row, coarseness, names
from bench.analysis.scores import Scores, comparable, score_change, shared_values
from bench.reporting import fmt
from bench.reporting.document import Block, Bullets, Table, Text
from bench.scorers import yes_no

ASKED_ABOUT = 0.01
"""The difference of accuracy that comparisons should detect: one point."""
SHOWN_BAD = 20
Scored = tuple[Row, str, Scores]


def scores(rows: Sequence[Row]) -> list[Block]:
    """Builds a table of the accuracy of each artifact and runtime on each task.

    [] if there is a single task, without shards or unusable questions: the summary table of the
    report has its accuracy already.
    """
    scored = _scored(rows)
    incomplete = any(one.bad or one.shards for *_, one in scored)
    if len({one.task for *_, one in scored}) < 2 and not incomplete:
        return []
    lines = [
        [
            *(one.task, name, row.runtime, fmt.share(one.share())),
            f"{len(one.bad):,}",
            fmt.significant(one.items_per_s()),
            _how(one),
        ]
        for row, name, one in _by_task(scored)
    ]
    header = ["task", "artifact", "runtime", "accuracy", "bad items", "questions/s", "scorer"]
    explained = (
        "Accuracy is the mean of graded scores (VQA accuracy, ANLS, IoU), else the share of right "
        "answers."
    )
    return [Table(header, lines, left=3), Text(explained)]


def parts(rows: Sequence[Row]) -> list[Block]:
    """Builds a table of accuracy on each subset of a task, and one of precision and recall.

    The second is for yes/no questions, with yes as the positive class. [] without data.
    """
    lines, positives = [], []
    for row, name, one in _by_task(_scored(rows)):
        labels = sorted({item.part for item in one.items if item.part})
        for label in labels if len(labels) > 1 else []:
            items = tuple(item for item in one.items if item.part == label)
            part = Scores(one.task, one.options, items, (), (), ())
            lines.append([one.task, label, name, row.runtime, fmt.share(part.share())])
            positives += _positives(part, label, name, row.runtime)
        positives += _positives(one, "all", name, row.runtime) if _yes_no(one) else []
    blocks: list[Block] = []
    if lines:
        blocks.append(Table(["task", "part", "artifact", "runtime", "accuracy"], lines, left=4))
    if positives:
        header = ["task", "part", "artifact", "runtime", "precision", "recall", "F1", "says yes"]
        blocks.append(Table(header, positives, left=4))
    return blocks


def compared(rows: Sequence[Row]) -> list[Block]:
    """Builds a table of how accuracy differs from a base, on the same questions, with intervals.

    The base is the original checkpoint; without one, the artifact with the most bits per weight.
    [] if there is nothing to compare.
    """
    lines, bases, few = [], dict[str, str](), 0
    for task, scored in _tasks(rows).items():
        base_row, base_name, base = min(scored, key=lambda one: coarseness(one[0]))
        for row, name, one in scored:
            if row is base_row or not comparable(base, one):
                continue
            pair = _pair(base, one)
            if pair:
                bases[task] = f"{base_name} on {base_row.runtime}"
                lines.append([task, name, row.runtime, *pair.cells])
                few += pair.too_few
    if not lines:
        return []
    header = ["task", "artifact", "runtime", "change, points", "only base right", "only this right"]
    point = f"{100 * ASKED_ABOUT:g} point"
    header += ["n", "p", "detectable, points", f"n for {point}"]
    small = (
        f"In {few} of {len(lines)} comparisons, n is too small to detect a difference of {point}."
    )
    table = Table(header, lines, left=3)
    return [Text(_explained(bases)), table, *([Text(small)] if few else [])]


def bad(rows: Sequence[Row]) -> list[Block]:
    """Builds a table of questions that could not be asked or scored, with the reasons.

    A question has one line, which names all artifacts it concerns; the first 20 lines are shown.
    """
    artifacts_of: dict[tuple[str, str, str], list[str]] = {}
    for row, name in zip(rows, names(rows), strict=True):
        of_task = {one.task: one.bad for one in row.scores}
        of_task["fidelity"] = row.agreement.bad if row.agreement else ()
        for task, bad_ones in of_task.items():
            for item in bad_ones:
                who = artifacts_of.setdefault((task, item.id, item.reason), [])
                who.append(f"{name} on {row.runtime}")
    lines = [
        [task, id_, reason, _who(rows, who)] for (task, id_, reason), who in artifacts_of.items()
    ]
    if not lines:
        return []
    more = len(lines) - SHOWN_BAD
    rest = [Text(f"{more:,} more are in the records.")] if more > 0 else []
    header = ["task", "item", "problem", "artifacts"]
    return [Table(header, lines[:SHOWN_BAD], left=4), *rest]


def images(rows: Sequence[Row]) -> list[Block]:
    """Lists what images of each task lost when they were read; [] if none did."""
    found = {
        f"{one.task}: {note}"
        for row in rows
        for one in row.scores
        for evaluation in one.evaluations
        for note in evaluation.notes
    }
    return [Bullets(sorted(found))] if found else []


@dataclass(frozen=True)
class _Pair:
    """The table cells of one comparison; `too_few`: n questions cannot detect one point."""

    cells: tuple[str, ...]
    too_few: bool


def _pair(base: Scores, one: Scores) -> _Pair | None:
    change, pair = score_change(base, one), mcnemar(base.correct(), one.correct())
    if change is None or pair is None:
        return None
    detection = power(*shared_values(base, one))
    needed = detection.needed(ASKED_ABOUT)
    cells = (
        _points(change),
        *(fmt.ABSENT if one.graded else str(n) for n in (pair.only_first, pair.only_second)),
        f"{pair.n:,}",
        fmt.ABSENT if one.graded else fmt.significant(pair.p, 2),
        f"{100 * detection.visible():.1f}",
        f"{needed:,}",
    )
    return _Pair(cells, needed > detection.n)


def _explained(bases: Mapping[str, str]) -> str:
    named = fmt.listed([f"{base} ({task})" for task, base in bases.items()])
    base = next(iter(bases.values())) if len(set(bases.values())) == 1 else named
    return (
        f"Compared with {base} on the same questions. p is the p-value of McNemar's exact test; "
        "graded scores have a paired bootstrap interval instead. Detectable is the smallest "
        "difference that n questions show with a power of 80 %; the last column is the number of "
        "questions that show a difference of one point."
    )


def _points(change: Change) -> str:
    value = f"{100 * change.value:+.2f}"
    if change.low is None or change.high is None:
        return value
    return f"{value} [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"


def _scored(rows: Sequence[Row]) -> list[Scored]:
    return [
        (row, name, one) for row, name in zip(rows, names(rows), strict=True) for one in row.scores
    ]


def _tasks(rows: Sequence[Row]) -> Mapping[str, list[Scored]]:
    by_task: dict[str, list[Scored]] = {}
    for scored in _scored(rows):
        by_task.setdefault(scored[2].task, []).append(scored)
    return by_task


def _by_task(scored_rows: Sequence[Scored]) -> list[Scored]:
    order = list(dict.fromkeys(one.task for *_, one in scored_rows))
    return sorted(scored_rows, key=lambda scored: order.index(scored[2].task))


def _how(one: Scores) -> str:
    scorer = one.scorer()
    count = f"{len(set(one.shards))} of {one.shards[0].partition('/')[2]}" if one.shards else ""
    shards = f", shards {count}" if count else ""
    return f"{scorer[0]} {scorer[1]}{shards}" if scorer else fmt.ABSENT


def _yes_no(one: Scores) -> bool:
    scorer = one.scorer()
    return scorer is not None and scorer[0] == "yes-no"


def _positives(one: Scores, label: str, name: str, runtime: str) -> list[list[str]]:
    if not one.items or any(item.gold not in (("yes",), ("no",)) for item in one.items):
        return []
    figures = yes_no.figures(
        (yes_no.says_yes(item.answer), item.gold == ("yes",)) for item in one.items
    )
    if figures is None:
        return []
    shares = (figures.precision, figures.recall, figures.f1, figures.yes_ratio)
    return [[one.task, label, name, runtime, *map(fmt.percent, shares)]]


def _who(rows: Sequence[Row], who: Sequence[str]) -> str:
    scored = sum(bool(row.scores) for row in rows)
    return "all" if len(who) == scored > 1 else fmt.listed(list(who))
