"""Differences between two sets of measurements, with 95 % intervals.

Every change is new minus base, absolute or relative; its sign does not mean better or worse.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.analysis.stats import CONFIDENCE, mean, median

TAIL = (1 - CONFIDENCE) / 2
POWER = 0.8  # probability of detecting a difference of the given size
FARTHEST = 700.0  # largest logarithm of a ratio that a float holds


@dataclass(frozen=True)
class Paired:
    """The answers of two models to the same `n` questions, counted.

    `only_first` and `only_second` are the questions that only that one answered rightly; `p` is
    McNemar's exact two-sided p-value.
    """

    n: int
    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True)
class Change:
    """A change from base to new, with its 95 % interval from `low` to `high`.

    It is a difference, or a share of base (0.1: 10 % more). `low` and `high` are None if there are
    too few samples. `paired`: samples were compared in pairs. `spread` is the standard error and
    `freedom` the degrees of freedom of Student's t, both of the logarithm if `logarithmic`.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    paired: bool
    spread: float = 0.0
    freedom: float = math.inf
    logarithmic: bool = False

    def beyond(self, limit: float, sign: int) -> float | None:
        """Returns the probability (0 to 1) that the true change is above `limit`, if `sign` is 1.

        If `sign` is −1: that it is below `limit`. None if the change has no interval.
        """
        if self.low is None or self.high is None:
            return None
        # The end of an interval may be too large for log1p; the middle is the value's logarithm.
        symmetric = not self.logarithmic
        middle = (self.low + self.high) / 2 if symmetric else math.log1p(self.value)
        distance = sign * (middle - (limit if symmetric else math.log1p(limit)))
        if self.spread == 0:
            return float(distance > 0)
        from scipy.stats import t

        return float(t.cdf(distance / self.spread, self.freedom))

    @property
    def unsure(self) -> bool:
        """Whether the change is a ratio whose interval spans more than a factor of ten."""
        if not self.logarithmic or self.low is None or self.high is None:
            return False
        return 1 + self.high > 10 * (1 + self.low)


def ratio(
    base: Sequence[Sequence[float]], new: Sequence[Sequence[float]], paired: bool
) -> Change | None:
    """Computes the relative change of the typical sample (0.1: 10 % more), by Student's t.

    `base` and `new` have a list of samples for each process; t is applied to the logarithms of the
    processes' medians.

    Processes, not requests, are the independent units (Kalibera and Jones 2013, Rigorous
    Benchmarking in Reasonable Time): requests of one process are alike, and a bootstrap over two or
    three processes gives intervals that are far too narrow. Interleaved rounds are paired, because
    a temporary slowdown of the machine affects both; others get Welch's interval for unequal
    variances. None if a side has no sample.
    """
    groups = [_log_medians(samples) for samples in (base, new)]
    if not groups[0].size or not groups[1].size:
        return None
    if paired and groups[0].size == groups[1].size:
        differences = groups[1] - groups[0]
        return _student(float(differences.mean()), [differences], True)
    return _student(float(groups[1].mean() - groups[0].mean()), groups, False)


def interleaved(base: Sequence[str], new: Sequence[str]) -> bool:
    """Whether two lists of ISO start times alternate, as in A B A B or B A A B, not A A B B."""
    if len(base) != len(new) or len(base) < 2:
        return False
    rounds = sorted(zip(sorted(base), sorted(new), strict=True))
    return all(max(a) < min(b) for a, b in itertools.pairwise(rounds))


def exact(base: float, new: float) -> Change:
    """Returns the relative change of numbers without noise: its interval is the value itself."""
    change = new / base - 1
    return Change(change, change, change, 1, True)


def mcnemar(first: Mapping[str, bool], second: Mapping[str, bool]) -> Paired | None:
    """Tests whether two models differ on the questions both were asked (McNemar 1947, exact).

    `first` and `second` map a question's id to whether the answer was right. Only questions that
    exactly one of them got right count: without a difference either is equally likely, which is a
    binomial test at one half. None without common questions.
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


def share_change(pair: Paired) -> Change:
    """Returns the difference of two shares of right answers to the same questions, with interval.

    Wald's interval with half a question added to each of the four cells (Agresti and Min 2005,
    Statistics in Medicine 24): its coverage is good even for few questions, and it is not empty
    where all answers are equal.
    """
    n, first, second = pair.n + 2, pair.only_first + 0.5, pair.only_second + 0.5
    middle = (second - first) / n
    spread = math.sqrt(first + second - (second - first) ** 2 / n) / n
    half = _normal() * spread
    value = (pair.only_second - pair.only_first) / pair.n
    return Change(value, middle - half, middle + half, pair.n, True, spread)


@dataclass(frozen=True)
class Power:
    """What a test on `n` questions, answered by two models, can detect.

    `differing` is the mean squared difference of the two scores. For right and wrong answers it is
    the share of questions that exactly one of the models answered rightly.
    """

    n: int
    differing: float

    def needed(self, difference: float) -> int:
        """Returns how many questions detect a difference (0.01: a point) in 80 % of cases.

        The test's level is 5 % (Connor 1987)."""
        null, alternative = (
            math.sqrt(self.differing),
            math.sqrt(max(0.0, self.differing - difference**2)),
        )
        return math.ceil(((_normal() * null + _normal(POWER) * alternative) / difference) ** 2)

    def visible(self) -> float:
        """Returns the smallest difference (0.01: a point) that `n` questions detect in 80 %."""
        low, high = 1e-6, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.needed(middle) > self.n else (low, middle)
        return high


def power(base: Sequence[float], new: Sequence[float]) -> Power:
    """Estimates the power of a comparison from the scores of two models on the same questions.

    Two questions are added, one of them answered differently, so that a small sample without
    differences is not read as proof of equality.
    """
    squares = sum((after - before) ** 2 for before, after in zip(base, new, strict=True))
    return Power(len(base), (squares + 1) / (len(base) + 2))


def mean_change(base: Sequence[float], new: Sequence[float]) -> Change | None:
    """Returns the difference of the means of paired samples, with a bootstrap interval."""
    return _mean_change(base, new, ())


def graded_change(base: Sequence[float], new: Sequence[float]) -> Change | None:
    """Returns the difference of the means of paired scores (0 to 1), with a bootstrap interval.

    Two items are added, one better and one worse by the root of one half: for right and wrong
    answers this gives the variance of `share_change`, and equal scores get an interval too.
    """
    half = math.sqrt(0.5)
    return _mean_change(base, new, (half, -half))


def _mean_change(
    base: Sequence[float], new: Sequence[float], more: Sequence[float]
) -> Change | None:
    """Returns the mean of the differences new − base; the bootstrap also draws from `more`.

    None if the two have no samples or different numbers of them.
    """
    if len(base) != len(new) or not len(base):
        return None
    differences = [after - before for before, after in zip(base, new, strict=True)]
    value, n, estimate = float(np.mean(differences)), len(differences), mean([*differences, *more])
    if estimate is None or estimate.low is None or estimate.high is None:
        return Change(value, None, None, n, True)
    spread = (estimate.high - estimate.low) / (2 * _normal())
    return Change(value, estimate.low, estimate.high, n, True, spread)


def _log_medians(groups: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    medians = [middle for group in groups if (middle := median(group))]
    return np.log(np.asarray(medians, np.float64))


def _student(
    difference: float,
    groups: Sequence[NDArray[np.float64]],
    paired: bool,
) -> Change:
    """Returns the relative change with Student's interval, from groups of logarithms.

    There is one group of differences (`paired`), or two groups to compare (Welch 1947);
    `difference` is the mean of the one, or the difference of the means of the two.
    """
    n, value = min(group.size for group in groups), math.expm1(difference)
    if n < 2:
        return Change(value, None, None, n, paired, logarithmic=True)
    squares = [float(group.var(ddof=1)) / group.size for group in groups]
    spread = math.sqrt(sum(squares))
    if spread < 1e-12:
        return Change(value, value, value, n, paired, logarithmic=True)
    from scipy.stats import t

    parts = sum(s**2 / (group.size - 1) for s, group in zip(squares, groups, strict=True))
    freedom = sum(squares) ** 2 / parts  # Welch and Satterthwaite; n - 1 for a single group
    half = float(t.ppf(1 - TAIL, freedom)) * spread
    low, high = (math.expm1(min(end, FARTHEST)) for end in (difference - half, difference + half))
    return Change(value, low, high, n, paired, spread, freedom, logarithmic=True)


def _normal(probability: float = 1 - TAIL) -> float:
    """Returns the standard normal distribution's quantile."""
    from scipy.stats import norm

    return float(norm.ppf(probability))
