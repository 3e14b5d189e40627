"""The Pareto front, the recommendation under a budget, and their sentences."""

from dataclasses import replace

import pytest

from bench.analysis.pareto import Budget, choose, front, profile_budget, smallest_profile
from bench.analysis.rows import Row, rows
from bench.machine.profiles import PROFILES
from bench.record import Record
from bench.reporting.report import report


@pytest.fixture
def shown(records: list[Record]) -> list[Row]:
    return [row for row in rows(records) if not row.subject.synthetic]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], ()),
        ([(1.0, 1.0)], (0,)),
        ([(1.0, 2.0), (2.0, 1.0)], (0, 1)),
        ([(1.0, 1.0), (2.0, 1.0), (1.0, 2.0)], (0,)),
        ([(1.0, 1.0), (1.0, 1.0)], (0, 1)),
    ],
)
def test_the_front_has_the_points_that_nothing_dominates(
    points: list[tuple[float, float]], expected: tuple[int, ...]
) -> None:
    assert front(points) == expected


@pytest.mark.parametrize(
    ("budget", "fitting", "chosen"),
    [
        (None, (1, 2), 2),
        (Budget("170 MB", 170_000_000), (2,), 2),
        (Budget("100 MB", 100_000_000), (), None),
        (Budget("GPU", 10**12, device="cuda"), (), None),
        (Budget("other", 10**12, runtimes=("llama_cpp",)), (), None),
    ],
)
def test_the_fastest_that_fits_is_chosen_and_never_a_checkpoint(
    shown: list[Row], budget: Budget | None, fitting: tuple[int, ...], chosen: int | None
) -> None:
    found = choose(shown, budget)
    assert (found.fitting, found.chosen) == (fitting, chosen)


@pytest.mark.parametrize(("slower", "expected"), [(1.09, "int4"), (1.11, "int8")])
def test_the_smallest_artifact_wins_among_equally_fast_ones(
    records: list[Record], slower: float, expected: str
) -> None:
    def timed(r: Record) -> Record:
        scale = slower if r.case.subject.recipe == "int4" else 1.0
        timings = tuple(replace(t, total_s=scale) for t in r.outcome.timings)
        return replace(r, outcome=replace(r.outcome, timings=timings))

    shown = [row for row in rows([timed(r) for r in records]) if not row.subject.synthetic]
    assert shown[choose(shown, None).chosen or 0].subject.recipe == expected


def test_a_significantly_less_accurate_artifact_is_not_chosen(records: list[Record]) -> None:
    def wrong(r: Record) -> Record:
        items = tuple(replace(item, correct=False) for item in r.outcome.items)
        return replace(r, outcome=replace(r.outcome, items=items))

    bad = [wrong(r) if r.case.subject.recipe == "int4" else r for r in records]
    shown = [row for row in rows(bad) if not row.subject.synthetic]
    assert shown[choose(shown, None).chosen or 0].subject.recipe == "int8"


def test_without_accuracy_nothing_is_recommended(records: list[Record]) -> None:
    timed = [r for r in records if r.case.task == "latency"]
    assert choose(rows(timed), None).chosen is None
    assert "Nothing is recommended" in report(timed)


def test_a_budget_that_nothing_fits_names_the_smallest_peak(records: list[Record]) -> None:
    found = report(records, budget=Budget("100 MB", 100_000_000))
    assert "**Nothing fits within 100 MB**: the smallest peak is 160 MB (onnx int4" in found


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_a_budget(shown: list[Row], name: str) -> None:
    budget = profile_budget(name)
    assert budget.memory_bytes == PROFILES[name].memory_bytes
    assert isinstance(budget.holds(shown[1]), bool)


def test_the_smallest_profile_has_the_runtime_too(shown: list[Row]) -> None:
    assert [smallest_profile(row) for row in shown] == ["laptop-8gb", "phone-4gb", "phone-4gb"]


def test_recommendations_of_several_models_come_first_one_line_each(records: list[Record]) -> None:
    known = [r for r in records if not r.case.subject.synthetic]
    others = [
        replace(r, case=replace(r.case, subject=replace(r.case.subject, model="another")))
        for r in known
    ]
    first = report([*known, *others]).partition("## ")[0]
    lines = [
        [c.strip() for c in line.split("|")[1:4]] for line in first.splitlines() if "|" in line
    ]
    assert lines[0] == ["model", "recommended", "runtime"]
    assert lines[2:] == [
        [model, "onnx int4", "onnxruntime"] for model in ("tiny-smolvlm", "another")
    ]
    assert "What to take of each model" not in report(known)
