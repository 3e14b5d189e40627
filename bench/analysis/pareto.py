"""Finds the Pareto front of artifacts, and the one to recommend within a limit of memory.

Checkpoints and other projects' runtimes are never recommended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.paired import mcnemar
from bench.analysis.rows import Row
from bench.machine.profiles import PROFILES

SURE = 0.05
AS_FAST = 1.1
"""Request times up to this multiple of the shortest count as equally fast."""


@dataclass(frozen=True)
class Budget:
    """The memory that one process may use, on one class of devices.

    `runtimes` are the runtimes that exist there and `device` is what they compute on (`cpu`,
    `cuda`); None: any.
    """

    name: str
    memory_bytes: int
    runtimes: tuple[str, ...] | None = None
    device: str | None = None

    def holds(self, row: Row) -> bool | None:
        """Whether the row's measured memory peak is within the budget.

        False if the budget lacks the row's runtime or device; None if the peak was not measured.
        """
        if not self.has(row):
            return False
        peak = row.counted_bytes
        return None if peak is None else peak <= self.memory_bytes

    def has(self, row: Row) -> bool:
        """Whether the row's runtime and device exist on the devices that the budget is for."""
        known_runtime = self.runtimes is None or row.runtime in self.runtimes
        return known_runtime and self.device in (None, row.device)


@dataclass(frozen=True)
class Choice:
    """The recommended row and the steps to it, all as indices into the rows given to `choose`.

    `candidates` have all measurements, `front` is the Pareto front of them, `fitting` are those
    within the budget, `accurate` those of `fitting` that are not significantly less accurate than
    the best. `chosen`, the recommended one, is of `accurate`; None: nothing can be recommended.
    """

    candidates: tuple[int, ...]
    front: tuple[int, ...]
    fitting: tuple[int, ...]
    accurate: tuple[int, ...]
    chosen: int | None


def profile_budget(name: str) -> Budget:
    """Returns the budget of a device profile, by its name in PROFILES."""
    profile = PROFILES[name]
    return Budget(name, profile.memory_bytes, profile.runtimes, profile.device)


def smallest_profile(row: Row) -> str | None:
    """Names the device profile with the least memory that the row's peak fits; None: none."""
    budgets = sorted((profile_budget(name) for name in PROFILES), key=lambda b: b.memory_bytes)
    return next((budget.name for budget in budgets if budget.holds(row)), None)


def in_a_profile(row: Row) -> bool:
    """Whether the peak was measured and some device profile has the row's runtime and device."""
    return row.counted_bytes is not None and any(profile_budget(n).has(row) for n in PROFILES)


def front(points: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """Returns the indices of points that no other point dominates; less is better everywhere."""
    return tuple(
        index
        for index, point in enumerate(points)
        if not any(_dominates(other, point) for other in points)
    )


def choose(rows: Sequence[Row], budget: Budget | None) -> Choice:
    """Finds the Pareto front (accuracy, request time, peak memory) and the row to recommend.

    That row has the lowest peak among those that fit the budget (None: no limit), are about as
    accurate as the best of these, and take at most 10 % longer than the fastest of the accurate
    ones. There is none if accuracy was not measured.
    """
    scored = any(row.accuracy for row in rows)
    known = {index: point for index, row in enumerate(rows) if (point := _point(row, scored))}
    indices = tuple(known)
    ahead = tuple(indices[n] for n in front([known[index] for index in indices]))
    fitting = tuple(p for p in indices if budget is None or budget.holds(rows[p]))
    accurate = _accurate(rows, fitting)
    limit_s = AS_FAST * min((known[index][1] for index in accurate), default=0.0)
    fast = [index for index in accurate if known[index][1] <= limit_s]
    chosen = min(fast, key=lambda index: known[index][2], default=None)
    return Choice(indices, ahead, fitting, accurate, chosen)


def _point(row: Row, scored: bool) -> tuple[float, ...] | None:
    """Returns (share of wrong answers, seconds of a request, peak bytes); less is better.

    The share is 0 for a row without accuracy; if `scored`, such a row gives None. So does one that
    cannot be recommended or lacks another number.
    """
    total, share = row.total_s(), row.accuracy_share()
    if row.subject.target is None or not row.ours:
        return None
    if total is None or row.counted_bytes is None:
        return None
    if scored and share is None:
        return None
    return (1 - share.value if share else 0.0, total.value, float(row.counted_bytes))


def _accurate(rows: Sequence[Row], fitting: Sequence[int]) -> tuple[int, ...]:
    scored = [index for index in fitting if rows[index].accuracy]
    if not scored:
        return ()
    best = max(scored, key=lambda index: sum(rows[index].correct().values()))
    right = rows[best].correct()
    return tuple(index for index in scored if not _worse(right, rows[index].correct()))


def _worse(best: Mapping[str, bool], other: Mapping[str, bool]) -> bool:
    """Whether `other` is significantly worse (McNemar's test, 5 %) on the common questions."""
    pair = mcnemar(best, other)
    return pair is not None and pair.p < SURE and pair.only_first > pair.only_second


def _dominates(other: Sequence[float], point: Sequence[float]) -> bool:
    no_worse = all(a <= b for a, b in zip(other, point, strict=True))
    return no_worse and tuple(other) != tuple(point)
