"""Statistics of samples: pure functions, always with the number of samples beside them.

NOT aware of what the samples measure. scipy is imported at the last moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 2000
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A statistic of `n` samples with its 95 % interval; no interval from a single sample."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Paired:
    """Two subjects on the same `n` questions; `p` is McNemar's exact two-sided p-value."""

    n: int
    only_first: int
    only_second: int
    p: float


def median(samples: Sequence[float]) -> float | None:
    """The middle; None of nothing."""
    return float(np.median(samples)) if len(samples) else None


def mad(samples: Sequence[float]) -> float | None:
    """Median absolute deviation from the median, unscaled."""
    if not len(samples):
        return None
    return float(np.median(np.abs(np.asarray(samples) - np.median(samples))))


def percentile(samples: Sequence[float], percent: float) -> float | None:
    """Linear between neighbours (numpy's default)."""
    return float(np.percentile(samples, percent)) if len(samples) else None


def mean(samples: Sequence[float], seed: int = 0) -> Estimate | None:
    """The mean with its percentile bootstrap interval."""
    if not len(samples):
        return None
    value, n = float(np.mean(samples)), len(samples)
    if n < 2:
        return Estimate(value, None, None, n)
    if min(samples) == max(samples):
        return Estimate(value, value, value, n)
    from scipy.stats import bootstrap

    interval = bootstrap(
        (np.asarray(samples),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        batch=max(1, 10**6 // n),
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), n)


def grouped_median(groups: Sequence[Sequence[float]], seed: int = 0) -> Estimate | None:
    """The median of all samples, with an interval that knows which ones belong together.

    Samples of one process are alike, so whole groups are drawn first and samples within them
    second (two-stage bootstrap; Davison and Hinkley 1997, section 3.8). Percentile interval.
    """
    filled = [np.asarray(group, np.float64) for group in groups if len(group)]
    if not filled:
        return None
    pooled = np.concatenate(filled)
    value, n = float(np.median(pooled)), len(pooled)
    if n < 2:
        return Estimate(value, None, None, n)
    rng = np.random.default_rng(seed)
    draws = [np.median(_draw(filled, rng)) for _ in range(RESAMPLES)]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Estimate(value, float(low), float(high), n)


def proportion(successes: int, n: int) -> Estimate | None:
    """A share with Wilson's score interval (Wilson 1927), which stays within 0 and 1."""
    if n == 0:
        return None
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def mcnemar(first: Mapping[str, bool], second: Mapping[str, bool]) -> Paired | None:
    """Whether two subjects differ on the questions both were asked (McNemar 1947, exact).

    Only questions that one of them alone got right tell anything: under no difference, either is
    as likely as the other, which is a binomial test at one half.
    """
    shared = first.keys() & second.keys()
    if not shared:
        return None
    from scipy.stats import binomtest

    only_first = sum(first[key] and not second[key] for key in shared)
    only_second = sum(second[key] and not first[key] for key in shared)
    discordant = only_first + only_second
    p = float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    return Paired(len(shared), only_first, only_second, p)


def _draw(groups: Sequence[FloatArray], rng: np.random.Generator) -> FloatArray:
    chosen = [groups[n] for n in rng.integers(0, len(groups), len(groups))]
    drawn = [group[rng.integers(0, len(group), len(group))] for group in chosen]
    return np.concatenate(drawn)
