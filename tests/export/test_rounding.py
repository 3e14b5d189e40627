"""Four bits: the best of several scales, GPTQ, and both as ggml's Q4_0."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from export.__main__ import parser
from export.arrays import FloatArray
from export.gguf.packing import q4_0
from export.quantize import blocks, gptq
from export.quantize.recipe import KNOWN, RECIPES, Calibration, RecipeUsed, Storage
from export.quantize.rounding import Rounding
from export.quantize.simulate import rounded

RNG = np.random.default_rng(0)
VALUES = RNG.standard_normal((48, 160)).astype(np.float32)
# Columns that nearly depend on 40 others, as those of activations do.
INPUTS = RNG.standard_normal((2000, 40)) @ RNG.standard_normal((40, 160))
INPUTS = (INPUTS + 0.5 * RNG.standard_normal((2000, 160))).astype(np.float32)
SUMS = INPUTS.T @ INPUTS


@dataclass(frozen=True)
class Known:
    """Hessians of given matrices."""

    factors: Mapping[str, FloatArray]
    origin: Mapping[str, Any]

    def inverse_cholesky(self, name: str) -> FloatArray | None:
        return self.factors.get(name)


CALIBRATED = Rounding(Known({"w": gptq.inverse_cholesky(SUMS)}, {}))


def test_search_has_less_error_than_rounding_to_nearest() -> None:
    errors = [
        np.square(_back(method(VALUES, 32)) - VALUES).sum()
        for method in (blocks.four_bits, blocks.four_bits_searched)
    ]
    assert errors[1] < 0.93 * errors[0]


def test_searched_scales_keep_the_product_of_a_block_with_itself() -> None:
    whole = VALUES.reshape(48, 5, 32).astype(np.float64)
    back = _back(blocks.four_bits_searched(VALUES, 32)).reshape(whole.shape)
    np.testing.assert_allclose((whole * back).sum(-1), (whole**2).sum(-1), rtol=1e-5)


def _back(found: tuple[blocks.Codes, FloatArray]) -> FloatArray:
    codes, scales = found
    return ((codes - np.float32(8)) * scales[..., None]).reshape(len(codes), -1)


@pytest.mark.parametrize("columns", [160, 150])
@pytest.mark.parametrize("packing", ["four_bits", "four_bit_rows"])
def test_gptq_halves_the_error_of_products_with_the_calibration_inputs(
    packing: str, columns: int
) -> None:
    values, inputs = VALUES[:, :columns], INPUTS[:, :columns]
    factor = gptq.inverse_cholesky(inputs.T @ inputs)
    offs = []
    for rounding in (Rounding(), Rounding(Known({"w": factor}, {}))):
        back = _unpacked(packing, rounding, values)
        offs.append(np.square(inputs @ (back - values).T).mean())
    assert offs[1] < 0.5 * offs[0]


def _unpacked(packing: str, rounding: Rounding, values: FloatArray) -> FloatArray:
    if packing == "four_bits":
        return rounded("w.weight", values, Storage(4), rounding)
    codes, factors, scales = rounding.four_bit_rows("w", values, Storage(4))
    assert np.abs(codes * factors[..., None].astype(np.int32)).max() <= 127
    whole = codes * factors[..., None] * scales[:, None, None]
    return whole.reshape(len(values), -1)[:, : values.shape[1]].astype(np.float32)


def test_uncorrelated_inputs_leave_other_columns_unchanged() -> None:
    factor = gptq.inverse_cholesky(np.eye(160, dtype=np.float32))
    codes, scales = Rounding(Known({"w": factor}, {})).four_bits("w", VALUES, Storage(4))
    expected = blocks.block_scales(VALUES.reshape(-1, 32)).reshape(48, 5)
    np.testing.assert_allclose(scales, expected, rtol=1e-6)
    nearest = np.clip(np.rint(VALUES.reshape(codes.shape) / expected[..., None]), -8, 7)
    np.testing.assert_array_equal(codes, nearest + 8)


def test_inputs_that_were_always_zero_are_accepted() -> None:
    codes, scales = Rounding(
        Known({"w": gptq.inverse_cholesky(np.zeros((160, 160), np.float32))}, {})
    ).four_bits("w", VALUES, Storage(4))
    assert codes.shape == (48, 5, 32)
    assert np.isfinite(scales).all()


def test_a_matrix_of_another_width_is_rounded_without_its_hessian() -> None:
    other = RNG.standard_normal((8, 64)).astype(np.float32)
    found, expected = (r.four_bits("w", other, Storage(4)) for r in (CALIBRATED, Rounding()))
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize("rounding", [Rounding(), CALIBRATED], ids=["search", "gptq"])
def test_ggml_reads_back_the_codes_and_half_precision_scales(rounding: Rounding) -> None:
    codes, scales = rounding.four_bits("w", VALUES, Storage(4))
    found = quants.dequantize(q4_0(codes, scales), GGMLQuantizationType.Q4_0)
    half = scales.astype(np.float16).astype(np.float32)[..., None]
    np.testing.assert_array_equal(found, ((codes - np.float32(8)) * half).reshape(found.shape))


def test_a_rounded_recipe_has_its_method_in_rules_and_name() -> None:
    recipe = RECIPES["int4"].rounded("nearest")
    assert recipe.name == "int4-nearest"
    assert {rule.storage.method for rule in recipe.rules} == {"nearest"}
    assert RECIPES["int4"].rounded("search") == RECIPES["int4"]
    assert KNOWN["q4_k_m"].rounded("nearest").targets == ("gguf",)


OWN = Calibration("own.jsonl", "0" * 64, 3)
USED = {
    "int4": (RecipeUsed("int4"), "--recipe int4"),
    "int4-nearest": (RecipeUsed("int4", "nearest"), "--recipe int4 --rounding nearest"),
    "int4-12.5mb": (RecipeUsed("int4", budget_mb=12.5), "--recipe int4 --budget-mb 12.5"),
    "int4-gptq": (
        RecipeUsed("int4", calibrated=Calibration("the proof's probes")),
        "--recipe int4 --calibrate",
    ),
    "int4-nearest-12mb-gptq": (
        RecipeUsed("int4", "nearest", 12.0, OWN),
        "--recipe int4 --rounding nearest --budget-mb 12 --calibrate own.jsonl",
    ),
}


@pytest.mark.parametrize("name", USED)
def test_a_recipe_used_has_a_name_and_the_options_that_make_it_again(name: str) -> None:
    used, options = USED[name]
    assert used.name == name
    assert " ".join(used.options()) == options
    parsed = parser().parse_args(["model", "--target", "onnx", *used.options()])
    assert (parsed.recipe, parsed.budget_mb) == (used.base, used.budget_mb)
