"""Differences of two subjects against numbers worked by hand, scipy, or simulated truth."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from bench.analysis.paired import (
    Change,
    Paired,
    exact,
    interleaved,
    mcnemar,
    mean_change,
    ratio,
    share_change,
)

BASE = [[1.0, 1.1, 1.2], [1.2, 1.3, 1.4], [0.9, 1.0, 1.1]]
NEW = [[1.3, 1.4, 1.5], [1.5, 1.6, 1.7], [1.2, 1.25, 1.3]]


def _medians(groups: list[list[float]]) -> list[float]:
    return [math.log(sorted(group)[1]) for group in groups]


@pytest.mark.parametrize("paired", [True, False])
def test_a_ratio_has_students_interval_of_log_medians(paired: bool) -> None:
    found = ratio(BASE, NEW, paired)
    logs = (_medians(NEW), _medians(BASE))
    theirs = ttest_rel(*logs) if paired else ttest_ind(*logs, equal_var=False)
    low, high = theirs.confidence_interval()
    assert found is not None
    assert found.low == pytest.approx(math.expm1(low))
    assert found.high == pytest.approx(math.expm1(high))
    assert (found.n, found.paired) == (3, paired)
    # The interval's end is where one-sided doubt is 2.5 %.
    assert found.beyond(math.expm1(low), 1) == pytest.approx(0.975)


def test_a_ratio_covers_the_truth_with_few_processes() -> None:
    rng = np.random.default_rng(0)

    def groups(middle: float) -> list[list[float]]:
        levels = middle * np.exp(rng.normal(0, 0.05, 3))
        return [list(level * np.exp(rng.normal(0, 0.01, 5))) for level in levels]

    hits = 0
    for _ in range(300):
        found = ratio(groups(1.0), groups(1.2), paired=False)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.2 <= found.high
    assert 0.92 <= hits / 300 <= 1.0


@pytest.mark.parametrize(
    ("base", "new", "expected"),
    [
        ([], [[1.0]], None),
        ([[]], [[1.0]], None),
        ([[1.0]], [[1.5]], (pytest.approx(0.5), None, 1)),
        ([[1.0], [1.0]], [[1.5], [1.5]], (pytest.approx(0.5), pytest.approx(0.5), 2)),
    ],
    ids=["nothing", "an empty process", "one process has no interval", "no variance"],
)
def test_ratios_at_the_edges(
    base: list[list[float]], new: list[list[float]], expected: tuple[float, float, int] | None
) -> None:
    found = ratio(base, new, paired=False)
    assert (found and (found.value, found.low, found.n)) == expected


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("new", [[1.0, 1e4], [1e-4, 1.0], [1.0, 1e200]])
def test_two_very_different_processes_make_a_change_unsure(new: list[float], paired: bool) -> None:
    found = ratio([[1.0], [1.1]], [[level] for level in new], paired)
    assert found is not None
    assert found.unsure
    assert found.low == pytest.approx(-1.0)
    assert found.high is not None
    assert math.isfinite(found.high)
    for sign in (1, -1):
        doubt = found.beyond(sign * 0.05, sign)
        assert doubt is not None
        assert 0.1 < doubt < 0.9


@pytest.mark.parametrize(
    ("base", "new", "alternate"),
    [
        (["1", "3", "5"], ["2", "4", "6"], True),
        (["1", "4", "5"], ["2", "3", "6"], True),
        (["1", "2", "3"], ["4", "5", "6"], False),
        (["1", "1", "1"], ["1", "1", "1"], False),
        (["1"], ["2"], False),
        (["1", "3"], ["2"], False),
    ],
)
def test_interleaved_rounds_are_paired(base: list[str], new: list[str], alternate: bool) -> None:
    assert interleaved(base, new) is alternate


def test_mcnemar_by_hand() -> None:
    # 6 questions only the first got right, 1 only the second: 2 * (1 + 7) / 2^7 = 0.125.
    first = {str(n): n < 6 for n in range(10)}
    second = {str(n): n == 6 for n in range(12)}
    found = mcnemar(first, second)
    assert found is not None
    assert (found.n, found.only_first, found.only_second) == (10, 6, 1)
    assert found.p == pytest.approx(0.125)


def test_mcnemar_without_shared_questions_is_none() -> None:
    assert mcnemar({"a": True}, {"b": True}) is None


@pytest.mark.parametrize(
    ("pair", "value", "low", "high"),
    [
        # (0.5 - 2.5) / 42 -+ 1.95996 sqrt(3 - 4 / 42) / 42
        (Paired(40, 2, 0, 0.5), -0.05, -0.12715, 0.03191),
        (Paired(40, 0, 0, 1.0), 0.0, -0.04667, 0.04667),
    ],
    ids=["two lost", "equal answers"],
)
def test_agresti_and_mins_interval_by_hand(
    pair: Paired, value: float, low: float, high: float
) -> None:
    found = share_change(pair)
    assert found.value == value
    assert found.low == pytest.approx(low, abs=1e-5)
    assert found.high == pytest.approx(high, abs=1e-5)


def test_means_are_compared_pair_by_pair() -> None:
    found = mean_change([1.0, 2.0, 3.0], [1.5, 2.5, 3.5])
    assert found == Change(0.5, 0.5, 0.5, 3, True)
    assert mean_change([1.0], [1.0, 2.0]) is None
    assert mean_change([], []) is None


def test_counted_quantities_are_certain() -> None:
    found = exact(100, 110)
    assert (found.beyond(0.05, 1), found.beyond(0.2, 1)) == (1.0, 0.0)
