"""Chooses which layers get 8 bits instead of 4, so that an artifact stays within a size."""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil

from export.errors import UserError
from export.quantize.recipe import Recipe, Rule, Storage

MB = 10**6


@dataclass(frozen=True)
class Layer:
    """Matrices of a model that get the same number of bits, 4 or 8.

    pattern: shell-style pattern that their names match. values: number of weights in all of them.
    sensitivity: measured mean KL divergence, in nats per token, of the model with 4 bits in this
    layer alone from the unrounded model.
    """

    pattern: str
    values: int
    sensitivity: float


def within_budget(
    recipe: Recipe, layers: tuple[Layer, ...], budget_mb: float, sizes: Callable[[Recipe], int]
) -> Recipe:
    """Returns `recipe` with 8 bits for as many layers as fit into `budget_mb` (1 MB = 10^6 bytes).

    Layers get 8 bits in order of sensitivity per weight, the highest first. `sizes` returns the
    bytes of an artifact that is exported with a given recipe. Raises UserError if an artifact with
    4 bits in every layer exceeds the budget.
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
    """Groups matrices into layers: one for each transformer block, one for every other matrix.

    `names`: name of a matrix -> its number of weights. `sensitivity` is called once for each layer,
    with its pattern, and returns Layer.sensitivity.
    """
    values: dict[str, int] = {}
    for name, count in names.items():
        pattern = pattern_of(name)
        values[pattern] = values.get(pattern, 0) + count
    return tuple(Layer(pattern, count, sensitivity(pattern)) for pattern, count in values.items())


def pattern_of(name: str) -> str:
    """Returns the pattern of a matrix's layer, such as v.blk.3.* for v.blk.3.attn_q.weight.

    For a matrix outside the transformer blocks it is the name itself.
    """
    parts = name.split(".")
    if "blk" not in parts:
        return name
    end = parts.index("blk") + 2
    return ".".join([*parts[:end], "*"])
