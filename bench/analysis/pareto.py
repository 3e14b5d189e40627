"""The Pareto front of artifacts, and the recommended one under a budget of memory.

Checkpoints and peers' runtimes are compared with, but never recommended.
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
    """Memory of one process; `runtimes` and `device` are those that exist, None for any."""

    name: str
    memory_bytes: int
    runtimes: tuple[str, ...] | None = None
    device: str | None = None

    def holds(self, row: Row) -> bool | None:
        """Whether the row's measured peak is within the budget; None if it was not measured."""
        if not self.has(row):
            return False
        peak = row.counted_bytes
        return None if peak is None else peak <= self.memory_bytes

    def has(self, row: Row) -> bool:
        """Whether the row's runtime and device are among the budget's."""
        known_runtime = self.runtimes is None or row.runtime in self.runtimes
        return known_runtime and self.device in (None, row.device)


@dataclass(frozen=True)
class Choice:
    """Indices into the given rows; `chosen` is one of `accurate`, which are among `fitting`."""

    candidates: tuple[int, ...]
    front: tuple[int, ...]
    fitting: tuple[int, ...]
    accurate: tuple[int, ...]
    """Those of `fitting` that are not significantly less accurate than the best of them."""
    chosen: int | None


def profile_budget(name: str) -> Budget:
    """The budget of a device profile."""
    profile = PROFILES[name]
    return Budget(name, profile.memory_bytes, profile.runtimes, profile.device)


def smallest_profile(row: Row) -> str | None:
    """The profile with the least memory that holds the row's peak; None if there is none."""
    budgets = sorted((profile_budget(name) for name in PROFILES), key=lambda b: b.memory_bytes)
    return next((budget.name for budget in budgets if budget.holds(row)), None)


def in_a_profile(row: Row) -> bool:
    """Whether any profile has the row's runtime and device, and its memory was measured."""
    return row.counted_bytes is not None and any(profile_budget(n).has(row) for n in PROFILES)


def front(points: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """Indices of the points that no other one dominates; less is better in each coordinate."""
    return tuple(
        index
        for index, point in enumerate(points)
        if not any(_dominates(other, point) for other in points)
    )


def choose(rows: Sequence[Row], budget: Budget | None) -> Choice:
    """The Pareto front and the chosen row.

    That is the smallest of those that fit, are accurate, and are within 10 % of the fastest of
    them; None without measured accuracy.
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
    """(share of wrong answers, seconds of a request, bytes), the share 0 unless `scored`.

    None for a row that cannot be recommended, or if a coordinate is not known.
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
    """Whether `other` is significantly worse on common questions; False if there are none."""
    pair = mcnemar(best, other)
    return pair is not None and pair.p < SURE and pair.only_first > pair.only_second


def _dominates(other: Sequence[float], point: Sequence[float]) -> bool:
    no_worse = all(a <= b for a, b in zip(other, point, strict=True))
    return no_worse and tuple(other) != tuple(point)
