"""Chooses, for each device profile, the artifact to take on such a device."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis.pareto import Budget, choose, profile_budget
from bench.analysis.rows import Row
from bench.machine.profiles import PROFILES


@dataclass(frozen=True)
class Assignment:
    """The artifact to take on the devices of one profile (`budget`); artifacts are indices of rows.

    chosen: the artifact to take, which fits the budget; None: none fits, or accuracy was not
    measured. smallest: the artifact with the lowest peak memory whose runtime exists there.
    """

    budget: Budget
    chosen: int | None
    smallest: int
    excess_bytes: int
    """Bytes by which the peak of `smallest` exceeds the budget; 0 if it fits."""


def assignments(rows: Sequence[Row]) -> list[Assignment]:
    """Chooses an artifact for each profile of PROFILES, by `choose`, from the rows of one model.

    Leaves out profiles for which no artifact was measured on a runtime that exists there.
    """
    found = (_assignment(rows, profile_budget(name)) for name in PROFILES)
    return [assignment for assignment in found if assignment is not None]


def _assignment(rows: Sequence[Row], budget: Budget) -> Assignment | None:
    choice = choose(rows, budget)
    peaks = {
        index: peak
        for index in choice.candidates
        if budget.has(rows[index]) and (peak := rows[index].counted_bytes) is not None
    }
    if not peaks:
        return None
    smallest = min(peaks, key=peaks.__getitem__)
    excess = max(0, peaks[smallest] - budget.memory_bytes)
    return Assignment(budget, choice.chosen, smallest, excess)
