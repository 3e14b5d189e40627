"""Within a number of bytes, the layers most sensitive to 4 bits get 8."""

import pytest

from export.errors import UserError
from export.quantize.budget import MB, Layer, layers_of, pattern_of, within_budget
from export.quantize.recipe import RECIPES, Recipe

NAMES = {
    f"{part}blk.{i}.{name}.weight": MB
    for part in ("", "v.")
    for i in range(2)
    for name in ("attn_q", "ffn_up")
} | {"mm.0.weight": MB}
SENSITIVITY = {
    "blk.0.*": 0.1,
    "blk.1.*": 0.4,
    "v.blk.0.*": 0.3,
    "v.blk.1.*": 0.0,
    "mm.0.weight": 0.16,
}
LAYERS = layers_of(NAMES, SENSITIVITY.__getitem__)


def sizes(recipe: Recipe) -> int:
    """4 MB outside of layers, and 4 or 8 bits a value."""
    bits = sum(n * recipe.storage(name, (1, n)).bits for name, n in NAMES.items())
    return 4 * MB + bits // 8


def bits(recipe: Recipe) -> dict[str, int]:
    return {pattern_of(name): recipe.storage(name, (1, n)).bits for name, n in NAMES.items()}


def test_matrices_of_one_block_are_one_layer() -> None:
    assert [layer.pattern for layer in LAYERS] == list(SENSITIVITY)
    assert LAYERS[0] == Layer("blk.0.*", 2 * MB, 0.1)


@pytest.mark.parametrize(
    ("budget", "wide"),
    [
        (9, set()),  # 8.5 MB with 4 bits everywhere
        (9.5, {"blk.1.*"}),
        (
            10,
            {"blk.1.*", "mm.0.weight"},
        ),  # a single matrix, but more sensitive per value than v.blk.0
        (11, {"blk.1.*", "mm.0.weight", "v.blk.0.*"}),
        (12, set(SENSITIVITY) - {"v.blk.1.*"}),
        (99, set(SENSITIVITY)),
    ],
)
def test_the_most_sensitive_layers_per_value_get_8_bits_first(
    budget: float, wide: set[str]
) -> None:
    recipe = within_budget(RECIPES["int4"], LAYERS, budget, sizes)
    assert {pattern for pattern, n in bits(recipe).items() if n == 8} == wide
    assert sizes(recipe) <= budget * MB
    assert recipe.name == f"int4-{budget}mb"


def test_a_budget_below_four_bits_is_refused_with_the_smallest_size() -> None:
    with pytest.raises(UserError, match=r"8\.50 MB .* allow at least 8\.5$"):
        within_budget(RECIPES["int4"], LAYERS, 8, sizes)
