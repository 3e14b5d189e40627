"""Statistics of one set of samples; an estimate always has its number of samples.

Comparisons of two sets are in bench.analysis.paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 2000
OUTLIER = 3.5
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A statistic of `n` samples with its 95 % interval from `low` to `high`.

    A single sample has no interval: `low` and `high` are None.
    """

    value: float
    low: float | None
    high: float | None
    n: int


def median(samples: Sequence[float]) -> float | None:
    """Returns the median; None without samples."""
    return float(np.median(samples)) if len(samples) else None


def mad(samples: Sequence[float]) -> float | None:
    """Returns the median absolute deviation from the median, unscaled; None without samples."""
    if not len(samples):
        return None
    return float(np.median(np.abs(np.asarray(samples) - np.median(samples))))


def outliers(samples: Sequence[float]) -> tuple[int, ...]:
    """Returns indices of samples with a modified z-score beyond 3.5 (Iglewicz and Hoaglin 1993).

    The score (p. 11) is 0.6745 (x - median) / MAD. If over half of the samples are equal, MAD is 0
    and the result is empty.
    """
    spread = mad(samples)
    if not spread:
        return ()
    scores = 0.6745 * (np.asarray(samples) - np.median(samples)) / spread
    return tuple(int(index) for index in np.flatnonzero(np.abs(scores) > OUTLIER))


def percentile(samples: Sequence[float], percent: float) -> float | None:
    """Returns a percentile (0 to 100), interpolated linearly; None without samples."""
    return float(np.percentile(samples, percent)) if len(samples) else None


def mean(samples: Sequence[float], seed: int = 0) -> Estimate | None:
    """Returns the mean with its 95 % percentile bootstrap interval; None without samples."""
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
    """Returns the median of all samples, with a 95 % interval from a two-stage bootstrap.

    Samples of one group (process) are correlated, so groups are drawn first and samples within
    them second (Davison and Hinkley 1997, section 3.8). None without samples.
    """
    return _grouped_median(tuple(tuple(group) for group in groups if len(group)), seed)


@lru_cache(maxsize=1024)  # a report computes the same ones for tables, sentences and figures
def _grouped_median(groups: tuple[tuple[float, ...], ...], seed: int) -> Estimate | None:
    if not groups:
        return None
    filled = [np.asarray(group, np.float64) for group in groups]
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
    """Returns the share `successes / n` with Wilson's 95 % score interval (Wilson 1927).

    The interval stays within 0 and 1. None if n is 0.
    """
    if n == 0:
        return None
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def _draw(groups: Sequence[FloatArray], rng: np.random.Generator) -> FloatArray:
    chosen = [groups[n] for n in rng.integers(0, len(groups), len(groups))]
    drawn = [group[rng.integers(0, len(group), len(group))] for group in chosen]
    return np.concatenate(drawn)
