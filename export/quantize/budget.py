"""Which layers get 8 bits instead of 4 where a number of bytes is given. Pure.

NOT aware of how harm or bytes are found.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

from export.errors import UserError
from export.quantize.recipe import Recipe

MB = 10**6


@dataclass(frozen=True)
class Layer:
    """Matrices that are rounded alike: a pattern of names, their values, and what 4 bits cost."""

    pattern: str
    values: int
    harm: float
    """Mean divergence of the model's answers when only this layer has 4 bits."""


def within_budget(
    recipe: Recipe, layers: tuple[Layer, ...], budget_mb: float, sizes: Callable[[Recipe], int]
) -> Recipe:
    """The recipe with 8 bits for the layers that lose most a byte, as many as `budget_mb` holds.

    `sizes` tells the bytes of a whole artifact. Raises UserError where 4 bits alone are too many.
    """
    ordered = sorted(layers, key=lambda layer: -layer.harm / layer.values)
    name = f"{recipe.name}-{budget_mb:g}mb"

    def mixed(count: int) -> Recipe:
        return recipe.with_8_bits([layer.pattern for layer in ordered[:count]], name)

    least = sizes(recipe)
    if least > budget_mb * MB:
        raise UserError(
            f"--budget-mb {budget_mb:g}: {recipe.name} takes {least / MB:.2f} MB with 4 bits "
            f"in every layer; allow at least {ceil(least / MB * 100) / 100:g}"
        )
    counts = range(1, len(ordered) + 1)
    fitting = bisect_right(counts, budget_mb * MB, key=lambda count: sizes(mixed(count)))
    return mixed(fitting)


def layers_of(names: Mapping[str, int], harm: Callable[[str], float]) -> tuple[Layer, ...]:
    """Matrices (name -> values) of one block together, others each alone."""
    values: dict[str, int] = {}
    for name, count in names.items():
        pattern = pattern_of(name)
        values[pattern] = values.get(pattern, 0) + count
    return tuple(Layer(pattern, count, harm(pattern)) for pattern, count in values.items())


def pattern_of(name: str) -> str:
    """v.blk.3.* of v.blk.3.attn_q.weight; a name outside of blocks is its own pattern."""
    parts = name.split(".")
    if "blk" not in parts:
        return name
    end = parts.index("blk") + 2
    return ".".join([*parts[:end], "*"])
