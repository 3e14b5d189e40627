"""Chooses the layers that get 8 bits instead of 4 in an artifact of limited size. Pure."""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil

from export.errors import UserError
from export.quantize.recipe import Recipe, Rule, Storage

MB = 10**6


@dataclass(frozen=True)
class Layer:
    """Matrices that get the same number of bits."""

    pattern: str
    """Shell-style pattern of their names."""
    values: int
    """Number of weights in all of them."""
    sensitivity: float
    """Mean KL divergence in nats of the model's answers if only this layer has 4 bits."""


def within_budget(
    recipe: Recipe, layers: tuple[Layer, ...], budget_mb: float, sizes: Callable[[Recipe], int]
) -> Recipe:
    """The recipe with 8 bits for as many layers as fit into `budget_mb`, the most sensitive first.

    Layers are ordered by sensitivity per weight. `sizes` returns the bytes of an artifact with a
    recipe. Raises UserError if 4 bits for all layers exceed the budget.
    """
    ordered = sorted(layers, key=lambda layer: -layer.sensitivity / layer.values)

    def mixed(count: int) -> Recipe:
        raised = tuple(Rule(layer.pattern, Storage(8)) for layer in ordered[:count])
        return replace(recipe, rules=raised + recipe.rules, budget_mb=budget_mb)

    least = sizes(recipe)
    if least > budget_mb * MB:
        raise UserError(
            f"--budget-mb {budget_mb:g}: {recipe.name} takes {least / MB:.2f} MB with 4 bits "
            f"in every layer; allow at least {ceil(least / MB * 100) / 100:g}"
        )
    counts = range(1, len(ordered) + 1)
    fitting = bisect_right(counts, budget_mb * MB, key=lambda count: sizes(mixed(count)))
    return mixed(fitting)


def layers_of(names: Mapping[str, int], sensitivity: Callable[[str], float]) -> tuple[Layer, ...]:
    """Layers of matrices (name -> number of weights): one per block, others one per matrix.

    `sensitivity` is called with each layer's pattern.
    """
    values: dict[str, int] = {}
    for name, count in names.items():
        pattern = pattern_of(name)
        values[pattern] = values.get(pattern, 0) + count
    return tuple(Layer(pattern, count, sensitivity(pattern)) for pattern, count in values.items())


def pattern_of(name: str) -> str:
    """v.blk.3.* for v.blk.3.attn_q.weight; the name itself for a matrix outside the blocks."""
    parts = name.split(".")
    if "blk" not in parts:
        return name
    end = parts.index("blk") + 2
    return ".".join([*parts[:end], "*"])
