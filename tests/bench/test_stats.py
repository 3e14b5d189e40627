"""Statistics against numbers worked by hand, published ones, or scipy."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from bench.analysis.stats import (
    Estimate,
    grouped_median,
    mad,
    mean,
    median,
    outliers,
    percentile,
    proportion,
)


def test_median_mad_and_percentiles_by_hand() -> None:
    samples = [1.0, 2.0, 4.0, 8.0, 100.0]
    assert median(samples) == 4.0
    assert mad(samples) == 3.0  # deviations 3 2 0 4 96
    assert percentile(samples, 50) == 4.0
    assert percentile(samples, 95) == pytest.approx(8 + 0.8 * 92)


def test_no_samples_give_none_and_one_sample_no_interval() -> None:
    empty = (median([]), mad([]), percentile([], 50), mean([]), grouped_median([[]]))
    assert empty == (None,) * 5
    assert proportion(0, 0) is None
    assert mean([3.0]) == grouped_median([[3.0]]) == Estimate(3.0, None, None, 1)


def test_equal_samples_have_an_interval_of_no_width() -> None:
    assert mean([2.0] * 5) == grouped_median([[2.0] * 5]) == Estimate(2.0, 2.0, 2.0, 5)


def test_wilson_interval_of_81_in_263() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    found = proportion(81, 263)
    assert found is not None
    assert (found.low, found.high) == (
        pytest.approx(0.2553, abs=5e-5),
        pytest.approx(0.3662, abs=5e-5),
    )


def test_wilson_interval_stays_within_0_and_1() -> None:
    found = proportion(10, 10)
    assert found is not None
    assert found.high == pytest.approx(1.0)
    assert found.low == pytest.approx(10 / (10 + 1.959964**2), abs=1e-6)


def test_one_group_is_the_ordinary_bootstrap() -> None:
    samples = np.random.default_rng(1).exponential(size=60)
    found = grouped_median([samples.tolist()])
    theirs = bootstrap((samples,), np.median, method="percentile", rng=np.random.default_rng(2))
    assert found is not None
    assert found.low == pytest.approx(theirs.confidence_interval.low, rel=0.05)
    assert found.high == pytest.approx(theirs.confidence_interval.high, rel=0.05)


def test_groups_that_differ_widen_the_interval() -> None:
    groups = [[1.0, 1.01, 1.02], [2.0, 2.01, 2.02], [3.0, 3.01, 3.02]]
    apart, pooled = grouped_median(groups), grouped_median([[s for group in groups for s in group]])
    assert apart is not None
    assert pooled is not None
    assert apart.low is not None
    assert apart.high is not None
    assert apart.low <= 1.02
    assert apart.high >= 3.0
    assert (apart.value, apart.n) == (pooled.value, pooled.n) == (2.01, 9)


def test_equal_seeds_give_equal_intervals() -> None:
    assert mean([1.0, 2.0, 5.0]) == mean([1.0, 2.0, 5.0])


def test_outliers_have_a_modified_z_score_beyond_3_and_a_half() -> None:
    # Median 3, MAD 1: the fence is at 3 + 3.5 / 0.6745 = 8.19.
    assert outliers([1.0, 2.0, 3.0, 4.0, 8.1]) == ()
    assert outliers([1.0, 2.0, 3.0, 4.0, 8.3]) == (4,)
    assert outliers([5.0, 5.0, 5.0, 9.0]) == ()  # MAD is 0: no scale to judge by
    assert outliers([]) == ()
