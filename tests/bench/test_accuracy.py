"""Scores in reports: shards are put together, parts and bad items shown, small n said."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from bench.analysis.compare import compare
from bench.analysis.paired import Power, power
from bench.analysis.rows import rows
from bench.options import Options
from bench.record import BadItem, Evaluation, Item, Outcome, Record
from bench.reporting import accuracy
from bench.reporting.document import Block, Table, Text
from tests.bench.made import record, subject

BASE, SMALL = subject(None, 3.3), subject("int4", 1.5)
HOW = Evaluation("{question}", 8, "exact", 1, "made", asked=40, asked_s=4.0)


def scored(
    of: object,
    items: Sequence[Item],
    task: str = "easy-vqa",
    shard: str | None = None,
    **how: object,
) -> Record:
    evaluation = replace(HOW, **how)  # type: ignore[arg-type]
    made = record(of, "fake", task, Outcome(items=tuple(items), evaluation=evaluation))  # type: ignore[arg-type]
    return replace(made, case=replace(made.case, options=Options(shard=shard)))


def items(right: Sequence[bool]) -> list[Item]:
    return [Item(str(n), "red", one) for n, one in enumerate(right)]


def words(blocks: Sequence[Block]) -> str:
    texts = [block.text for block in blocks if isinstance(block, Text)]
    lines = [" | ".join(line) for b in blocks if isinstance(b, Table) for line in b.rows]
    return "\n".join([*texts, *lines])


def test_shards_of_one_sample_are_merged() -> None:
    whole = items([True] * 6 + [False] * 4)
    parts = [scored(SMALL, whole[n::4], shard=f"{n + 1}/4") for n in range(4)]
    (row,) = rows(parts)
    assert row.accuracy is not None
    assert (len(row.accuracy.items), len(row.accuracy.shards)) == (10, 4)
    share = row.accuracy_share()
    assert share is not None
    assert (share.value, share.n) == (0.6, 10)
    assert row.accuracy.items_per_s() == 10.0
    assert "exact 1, shards 4 of 4" in words(accuracy.scores([row]))
    assert "exact 1, shards 3 of 4" in words(accuracy.scores(rows(parts[1:])))


def test_shards_of_several_machines_are_one_row() -> None:
    whole = items([True] * 6 + [False] * 4)
    parts = [scored(SMALL, whole[n::2], shard=f"{n + 1}/2") for n in range(2)]
    parts[1] = replace(parts[1], environment=replace(parts[1].environment, cpu="Another CPU"))
    (row,) = rows(parts)
    assert row.accuracy is not None
    assert len(row.accuracy.items) == 10


def test_a_repeated_shard_counts_once_and_a_whole_sample_is_not_merged() -> None:
    whole = items([True] * 6 + [False] * 4)
    (row,) = rows([scored(SMALL, whole[:5], shard="1/2"), scored(SMALL, whole[:5], shard="1/2")])
    assert row.accuracy is not None
    assert len(row.accuracy.items) == 5
    pair = [scored(SMALL, whole[:5], shard="1/2"), scored(SMALL, whole)]
    for both in (pair, pair[::-1]):
        (row,) = rows(both)
        assert row.accuracy is not None
        assert len(row.accuracy.items) == 10


def test_graded_scores_are_means_with_a_bootstrap_interval() -> None:
    graded = [Item(str(n), "a", n % 2 == 0, 0.3 + 0.1 * (n % 5)) for n in range(50)]
    (row,) = rows([scored(SMALL, graded, "textvqa", scorer="vqa")])
    share = row.accuracy_share()
    assert share is not None
    assert share.low is not None
    assert share.high is not None
    assert share.value == pytest.approx(0.5)
    assert share.low < 0.5 < share.high < 0.6


def test_each_task_has_a_line_and_the_main_task_is_the_most_frequent() -> None:
    shown = rows(
        [
            scored(SMALL, items([True] * 10), "digits"),
            scored(SMALL, items([True] * 9 + [False])),
            scored(BASE, items([True] * 10)),
        ]
    )
    assert {row.main_task for row in shown} == {"easy-vqa"}
    found = words(accuracy.scores(shown))
    assert "digits | onnx int4 | fake | 100.0 % [72.2, 100.0], n = 10 | 0 | 10.0 | exact 1" in found
    assert "easy-vqa | checkpoint" in found


def test_one_task_without_bad_items_needs_no_table_of_tasks() -> None:
    assert accuracy.scores(rows([scored(SMALL, items([True] * 10))])) == []


def test_bad_items_are_listed_with_their_reasons() -> None:
    bad = (BadItem("7", "rows.jsonl, row 8, column 'image': no such file"),)
    shown = rows([scored(of, items([True] * 9), bad=bad) for of in (BASE, SMALL)])
    found = accuracy.bad(shown)
    assert words(found) == f"easy-vqa | 7 | {bad[0].reason} | all"
    assert " | 1 | " in words(accuracy.scores(shown))


def test_parts_and_precision_of_yes_no_questions_are_shown() -> None:
    asked = [
        *(
            Item(f"r{n}", "Yes", n < 3, None, "random", ("yes",) if n < 3 else ("no",))
            for n in range(4)
        ),
        *(
            Item(f"a{n}", "no", n < 2, None, "adversarial", ("no",) if n < 2 else ("yes",))
            for n in range(4)
        ),
    ]
    found = words(accuracy.parts(rows([scored(SMALL, asked, "pope", scorer="yes-no")])))
    assert "pope | adversarial | onnx int4 | fake | 50.0 %" in found
    # 3 of 4 said yes rightly; 3 of 5 that are yes were found; yes was said 4 times of 8.
    assert "pope | all | onnx int4 | fake | 75.0 % | 60.0 % | 66.7 % | 50.0 %" in found
    assert "pope | adversarial | onnx int4 | fake | – | 0.0 % | – | 0.0 %" in found


def test_pairs_are_compared_and_a_small_n_is_reported() -> None:
    right = np.random.default_rng(0).random(200) < 0.8
    other = right.copy()
    other[:6] = ~other[:6]
    shown = rows([scored(BASE, items(right.tolist())), scored(SMALL, items(other.tolist()))])
    found = words(accuracy.compared(shown))
    assert "In 1 of 1 comparisons, n is too small to detect a difference of 1 point" in found
    assert found.endswith(f" | {Power(200, 7 / 202).needed(0.01):,}")


@pytest.mark.parametrize("changed", [{"scorer_version": 2}, {"source": "made, seed 1"}])
def test_scores_of_other_questions_or_scorer_versions_are_not_compared(
    changed: dict[str, object],
) -> None:
    base = scored(BASE, items([True] * 30))
    newer = scored(SMALL, items([False] * 30), **changed)
    assert accuracy.compared(rows([base, newer])) == []
    found = compare([scored(SMALL, items([True] * 30))], [newer])
    assert [one.number for one in found.comparisons if "accuracy" in one.number] == []
    ((*_, why),) = found.apart
    assert why == "accuracy on easy-vqa: the questions or the scorer differ"


def test_equal_grades_of_few_items_are_not_proof_of_equality() -> None:
    few, many = ([Item(str(n), "a", True, 0.9) for n in range(count)] for count in (3, 20_000))
    verdicts = [
        next(one.verdict for one in compare([made], [made]).comparisons if one.number == "accuracy")
        for made in (scored(SMALL, own, "docvqa", scorer="anls") for own in (few, many))
    ]
    assert verdicts == ["undecided", "same"]


def test_graded_scores_are_compared_item_by_item() -> None:
    rng = np.random.default_rng(0)
    base = [Item(str(n), "a", True, float(v)) for n, v in enumerate(rng.uniform(0.5, 1, 300))]
    worse = [replace(item, score=item.value - 0.1) for item in base]
    found = compare(
        [scored(SMALL, base, "docvqa", scorer="anls")],
        [scored(SMALL, worse, "docvqa", scorer="anls")],
    )
    (accuracy,) = (one for one in found.comparisons if one.number == "accuracy")
    assert accuracy.verdict == "worse"
    assert accuracy.change.value == pytest.approx(-0.1)


def test_the_tolerance_of_accuracy_determines_verdict_and_needed_items() -> None:
    right = [True] * 380 + [False] * 20
    new = [False] * 20 + right[20:]
    runs = [[scored(SMALL, items(side))] for side in (right, new)]
    found = {
        points: next(c for c in compare(*runs, points=points).comparisons if "acc" in c.number)
        for points in (0.01, 0.03, 0.1)
    }
    assert [one.verdict for one in found.values()] == ["worse", "undecided", "same"]
    needed = Power(400, 21 / 402).needed
    assert [one.needed for one in found.values()] == [needed(0.01), needed(0.03), None]


def test_power_of_paired_items_agrees_with_simulations() -> None:
    # McNemar's test (normal) on items of which 10 % differ, 7.5 % in one direction: 5 points apart.
    needed = Power(0, 0.10).needed(0.05)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(needed, [0.075, 0.025, 0.9], size=4000)
    z = np.abs(draws[:, 0] - draws[:, 1]) / np.sqrt(np.maximum(1, draws[:, 0] + draws[:, 1]))
    assert np.mean(z > 1.96) == pytest.approx(0.8, abs=0.03)
    assert Power(needed, 0.10).visible() == pytest.approx(0.05, rel=0.01)


def test_items_that_never_differ_are_not_proof_of_equality() -> None:
    assert power([1.0] * 8, [1.0] * 8).differing == pytest.approx(0.1)
