"""How much two subjects differ, and how sure that is: pure functions of paired or grouped samples.

NOT aware of what the samples measure, nor of how large a change matters. Every change is new minus
base, so its sign says nothing about better or worse.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.analysis.stats import CONFIDENCE, mean, median

TAIL = (1 - CONFIDENCE) / 2
POWER = 0.8  # how often a difference of the size asked about is to be found
FARTHEST = 700.0  # of a ratio's logarithm: what a float still holds


@dataclass(frozen=True)
class Paired:
    """Two subjects on the same `n` questions; `p` is McNemar's exact two-sided p-value."""

    n: int
    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True)
class Change:
    """New against base with a 95 % interval, None where one sample on a side gives none.

    `beyond(limit)` is one-sided: how sure it is that the change is larger than a limit.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    paired: bool
    spread: float = 0.0
    """Standard error, in the scale in which the change is symmetric (see `ratio`)."""
    freedom: float = math.inf
    logarithmic: bool = False

    def beyond(self, limit: float, sign: int) -> float | None:
        """Probability, as the interval sees it, that sign * change > sign * limit."""
        if self.low is None or self.high is None:
            return None
        # The logarithm of an interval's end may be out of reach; its middle is the value's.
        symmetric = not self.logarithmic
        middle = (self.low + self.high) / 2 if symmetric else math.log1p(self.value)
        distance = sign * (middle - (limit if symmetric else math.log1p(limit)))
        if self.spread == 0:
            return float(distance > 0)
        from scipy.stats import t

        return float(t.cdf(distance / self.spread, self.freedom))

    @property
    def unsure(self) -> bool:
        """Whether a ratio's interval spans more than a factor of ten: its ends say nothing."""
        if not self.logarithmic or self.low is None or self.high is None:
            return False
        return 1 + self.high > 10 * (1 + self.low)


def ratio(
    base: Sequence[Sequence[float]], new: Sequence[Sequence[float]], paired: bool
) -> Change | None:
    """Relative change of the typical sample, by Student's t on the log medians of the processes.

    Processes, not requests, are the independent units (Kalibera and Jones 2013, Rigorous
    Benchmarking in Reasonable Time): requests of one process are alike, and a bootstrap over two or
    three processes is far too sure of itself. Rounds that ran interleaved are paired: what slowed
    the machine for a while slowed both. Otherwise Welch's interval for unequal variances.
    """
    groups = [_log_medians(samples) for samples in (base, new)]
    if not groups[0].size or not groups[1].size:
        return None
    if paired and groups[0].size == groups[1].size:
        differences = groups[1] - groups[0]
        return _student(float(differences.mean()), [differences], True)
    return _student(float(groups[1].mean() - groups[0].mean()), groups, False)


def interleaved(base: Sequence[str], new: Sequence[str]) -> bool:
    """Whether two lists of starting times alternate: A B A B or B A A B, and never A A B B."""
    if len(base) != len(new) or len(base) < 2:
        return False
    rounds = sorted(zip(sorted(base), sorted(new), strict=True))
    return all(max(a) < min(b) for a, b in itertools.pairwise(rounds))


def exact(base: float, new: float) -> Change:
    """Relative change of numbers that are counted, not sampled."""
    change = new / base - 1
    return Change(change, change, change, 1, True)


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


def share_change(pair: Paired) -> Change:
    """Difference of two shares of right answers to the same questions.

    Wald's interval with half a question added to each of the four cells (Agresti and Min 2005,
    Statistics in Medicine 24): it covers well from few questions on, and equal answers to all of
    them still leave room for a difference.
    """
    n, first, second = pair.n + 2, pair.only_first + 0.5, pair.only_second + 0.5
    middle = (second - first) / n
    spread = math.sqrt(first + second - (second - first) ** 2 / n) / n
    half = _normal() * spread
    value = (pair.only_second - pair.only_first) / pair.n
    return Change(value, middle - half, middle + half, pair.n, True, spread)


@dataclass(frozen=True)
class Power:
    """What `n` paired items can show: `differing` is the mean squared difference of an item.

    Of right and wrong answers that is the share of items that only one side got right.
    """

    n: int
    differing: float

    def needed(self, difference: float) -> int:
        """Items that show a difference of means in four of five tries, at 5 % (Connor 1987)."""
        null, own = math.sqrt(self.differing), math.sqrt(max(0.0, self.differing - difference**2))
        return math.ceil(((_normal() * null + _normal(POWER) * own) / difference) ** 2)

    def visible(self) -> float:
        """The smallest difference that `n` items show in four of five tries."""
        low, high = 1e-6, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.needed(middle) > self.n else (low, middle)
        return high


def power(base: Sequence[float], new: Sequence[float]) -> Power:
    """Of scores paired one by one; one more item of two differs, as in `share_change`, so that
    none that differ among few do not promise that none ever will."""
    squares = sum((after - before) ** 2 for before, after in zip(base, new, strict=True))
    return Power(len(base), (squares + 1) / (len(base) + 2))


def mean_change(base: Sequence[float], new: Sequence[float]) -> Change | None:
    """Difference of means of samples paired one by one, with a bootstrap interval."""
    return _mean_change(base, new, ())


def graded_change(base: Sequence[float], new: Sequence[float]) -> Change | None:
    """Difference of means of scores between 0 and 1, paired one by one, with a bootstrap interval.

    Two more items, one better and one worse by the root of one half, are drawn too: of right and
    wrong answers that makes the variance of `share_change`, and equal scores of few items still
    leave room for a difference.
    """
    half = math.sqrt(0.5)
    return _mean_change(base, new, (half, -half))


def _mean_change(
    base: Sequence[float], new: Sequence[float], more: Sequence[float]
) -> Change | None:
    """The mean of the differences; `more` ones are drawn beside them for the interval."""
    if len(base) != len(new) or not len(base):
        return None
    differences = [after - before for before, after in zip(base, new, strict=True)]
    value, n, found = float(np.mean(differences)), len(differences), mean([*differences, *more])
    if found is None or found.low is None or found.high is None:
        return Change(value, None, None, n, True)
    spread = (found.high - found.low) / (2 * _normal())
    return Change(value, found.low, found.high, n, True, spread)


def _log_medians(groups: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    medians = [middle for group in groups if (middle := median(group))]
    return np.log(np.asarray(medians, np.float64))


def _student(
    difference: float,
    groups: Sequence[NDArray[np.float64]],
    paired: bool,
) -> Change:
    """The interval of one mean (paired) or of the difference of two (Welch 1947)."""
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
    """The standard normal distribution's quantile."""
    from scipy.stats import norm

    return float(norm.ppf(probability))
