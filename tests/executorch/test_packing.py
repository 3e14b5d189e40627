"""Quantized layers of ExecuTorch programs hold our codes, and XNNPACK computes with them."""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from export.arrays import FloatArray
from export.errors import UserError
from export.quantize import blocks
from export.quantize.recipe import RECIPES, Recipe, Rule, Storage

pytestmark = pytest.mark.executorch
RNG = np.random.default_rng(0)
SHAPES = {
    "narrow.weight": (48, 96),
    "ragged.weight": (40, 70),  # no multiple of a block
    "below.weight": (16, 96),
    "table.weight": (50, 64),
    "ragged_table.weight": (50, 70),
}
IDS = [3, 49, 0]


class Values:
    """Weights of a few matrices with a row of zeros and one of subnormal numbers, and biases."""

    synthetic = False
    origin: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self._values = {name: _matrix(*shape) for name, shape in SHAPES.items()}
        for name, (rows, _) in SHAPES.items():
            bias = RNG.standard_normal(rows).astype(np.float32)
            self._values[name.replace("weight", "bias")] = bias

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: values.shape for name, values in self._values.items()}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        return self._values[name][start:stop]


@dataclass
class Noted:
    """Stands in for the ledger: adds up the bytes of each type."""

    kinds: dict[str, int]

    def add(self, part: str, parameters: int, kind: str, nbytes: int) -> None:
        self.kinds[kind] = self.kinds.get(kind, 0) + nbytes


def _matrix(rows: int, columns: int) -> FloatArray:
    values = (RNG.standard_normal((rows, columns)) * RNG.uniform(0.1, 3, (rows, 1))).astype("f4")
    values[1] = 0
    values[2] = 1e-40
    return values


VALUES = Values()
MIXED = Recipe("mixed", (Rule("below.*", Storage(8)), Rule("*", Storage(4))))


@dataclass(frozen=True)
class Case:
    """A linear layer: the recipe that packs it, and the names of its weights."""

    recipe: Recipe
    names: tuple[str, ...]

    @property
    def columns(self) -> int:
        return SHAPES[f"{self.names[0]}.weight"][1]


CASES: Mapping[str, Case] = {
    "fp32": Case(RECIPES["fp32"], ("narrow", "below")),
    "int8": Case(RECIPES["int8"], ("narrow", "below")),
    "int8_ragged": Case(RECIPES["int8"], ("ragged",)),
    "int4": Case(RECIPES["int4"], ("narrow", "below")),
    "int4_nearest": Case(RECIPES["int4"].rounded("nearest"), ("narrow",)),
    "int4_ragged": Case(RECIPES["int4"], ("ragged",)),
    "mixed": Case(MIXED, ("narrow", "below")),
}
TABLES: Mapping[str, tuple[str, str]] = {
    "rows_of_int8": ("int8", "table"),
    "blocks_of_int4": ("int4", "table"),
    "ragged_blocks": ("int4", "ragged_table"),
}


def _packing(recipe: Recipe, noted: Noted | None = None) -> Any:
    from export.executorch.packing import Packing

    return Packing(VALUES, recipe, noted or Noted({}), "decoder")


@dataclass(frozen=True)
class Ran:
    """What one program with all cases returned for `inputs` (by columns), and its operators."""

    inputs: Mapping[int, FloatArray]
    outputs: Mapping[str, FloatArray]
    operators: Counter[str]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All cases in one program: lowered, and run on five positions and three token ids."""
    import torch

    from export.executorch.library import portable
    from export.executorch.tracing import exir, xnnpack_partitioner
    from export.library_log import kept

    class All(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.ModuleDict(
                {
                    case: _packing(CASES[case].recipe).linear(CASES[case].names, True)
                    for case in CASES
                }
            )
            self.tables = torch.nn.ModuleDict(
                {
                    case: _packing(RECIPES[recipe]).embedding(name)
                    for case, (recipe, name) in TABLES.items()
                }
            )

        def forward(self, wide: Any, ragged: Any, ids: Any) -> list[Any]:
            by_columns = {96: wide, 70: ragged}
            found = [self.linear[case](by_columns[CASES[case].columns]) for case in CASES]
            return found + [self.tables[case](ids) for case in TABLES]

    positions = torch.export.Dim("positions", min=1, max=8)
    inputs = {n: RNG.standard_normal((1, 5, n)).astype(np.float32) for n in (96, 70)}
    passed = *(torch.from_numpy(x) for x in inputs.values()), torch.tensor([IDS])
    with kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in export.executorch.lower
        shapes = {1: positions}, {1: positions}, {}
        traced = torch.export.export(All(), passed, dynamic_shapes=shapes, strict=False)
        edge = exir.to_edge_transform_and_lower(
            traced, partitioner=[xnnpack_partitioner.XnnpackPartitioner()]
        )
        nodes = [n for n in edge.exported_program().graph.nodes if n.op == "call_function"]
        path = tmp_path_factory.mktemp("program") / "all.pte"
        path.write_bytes(edge.to_executorch().buffer)
        module = portable._load_for_executorch(str(path))
        outputs = [x.numpy() for x in module.run_method("forward", passed)]
    return Ran(
        inputs,
        dict(zip([*CASES, *TABLES], outputs, strict=True)),
        Counter(str(node.target) for node in nodes),
    )


@pytest.mark.parametrize("case", CASES)
def test_xnnpack_multiplies_inputs_of_8_bits_by_our_codes(ran: Ran, case: str) -> None:
    x = ran.inputs[CASES[case].columns]
    if CASES[case].recipe.least_bits < 16:
        x = _in_8_bits(x)
    biases = [VALUES.read(f"{name}.bias") for name in CASES[case].names]
    expected = x @ _weights(case).T + np.concatenate(biases)
    error = np.abs(ran.outputs[case] - expected).max() / np.abs(expected).max()
    assert error < 1e-6


@pytest.mark.parametrize("case", TABLES)
def test_an_embedding_returns_the_values_of_our_codes(ran: Ran, case: str) -> None:
    recipe, name = TABLES[case]
    values = VALUES.read(f"{name}.weight")
    values = np.where(np.abs(values) < 1e-37, np.float32(0), values)
    if recipe == "int8":
        codes, scales = blocks.eight_bit_rows(values)
        expected = codes * scales[:, None]
    else:
        codes, scales = blocks.four_bits_searched(values, 32)
        whole = (codes.astype(np.float32) - 8) * scales.astype(np.float16)[..., None]
        expected = whole.reshape(len(values), -1)[:, : values.shape[1]]
    np.testing.assert_allclose(ran.outputs[case][0], expected[IDS], rtol=1e-6)


def test_xnnpack_takes_every_linear_layer_whole(ran: Ran) -> None:
    outside = [n for n in ran.operators if "delegate" not in n and "getitem" not in n]
    assert len(outside) == 2, outside
    assert all("quantized_decomposed.embedding_" in name for name in outside), outside


def test_torchao_computes_the_same_with_our_codes() -> None:
    """torchao has a layer of its own for this scheme; it gets our codes and scales."""
    import torch
    from torchao.quantization import IntxUnpackedToInt8Tensor

    layer = _packing(RECIPES["int4"]).linear(["narrow"], False)
    weight = IntxUnpackedToInt8Tensor(
        layer.codes,
        layer.scales,
        layer.zeros,
        torch.int4,
        (1, 32),
        torch.float32,
        "int8_asym_per_token",
    )
    x = torch.from_numpy(RNG.standard_normal((1, 5, 96)).astype(np.float32))
    expected = torch.nn.functional.linear(x, weight)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


def test_scales_are_positive_normal_numbers() -> None:
    for case in ("int4", "int4_nearest", "int4_ragged", "int8"):
        layer = _packing(CASES[case].recipe).linear(CASES[case].names, False)
        assert (layer.scales >= np.finfo(np.float32).smallest_normal).all()
        assert not layer.codes[1:3].any()  # the row of zeros and the one of subnormal numbers


def test_the_ledger_counts_the_bytes_that_are_stored() -> None:
    noted = Noted({})
    packing = _packing(RECIPES["int4"], noted)
    packing.linear(["ragged"], True)
    padded = 96
    assert noted.kinds == {
        "float32": 4 * 40,
        "int4 in blocks of 32": 40 * (padded // 2 + 2 * padded // 32),
    }
    noted = Noted({})
    _packing(RECIPES["int8"], noted).embedding("table")
    assert noted.kinds == {"int8 by rows": 50 * (64 + 4)}


def test_calibrated_codes_are_those_of_gptq() -> None:
    from export.executorch.packing import Packing
    from export.quantize import gptq
    from export.quantize.rounding import Rounding

    inputs = RNG.standard_normal((200, 96)).astype(np.float32) @ RNG.standard_normal((96, 96))
    factor = gptq.inverse_cholesky((inputs.T @ inputs).astype(np.float32))

    class Calibrated:
        origin: Mapping[str, Any] = {}

        def inverse_cholesky(self, name: str) -> FloatArray | None:
            return factor if name == "narrow" else None

    packing = Packing(VALUES, RECIPES["int4"], Noted({}), "decoder", Rounding(Calibrated()))
    layer: Any = packing.linear(["narrow"], False)
    plain: Any = _packing(RECIPES["int4"]).linear(["narrow"], False)

    def error(chosen: Any) -> float:
        scaled = chosen.codes.reshape(48, -1, 32) * chosen.scales[..., None]
        difference = scaled.reshape(48, -1).numpy() - VALUES.read("narrow.weight")
        return float(np.square(inputs @ difference.T).sum())

    assert error(layer) < 0.7 * error(plain)
    assert (layer.scales > 0).all()


def test_16_bits_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"stores it in 16 bits, but .* use --recipe fp32, int8"):
        _packing(RECIPES["fp16"]).linear(["narrow"], False)


def _weights(case: str) -> NDArray[np.float64]:
    """The values [out, in] that a case's codes stand for, from the rounding functions alone."""
    recipe, parts = CASES[case].recipe, []
    for name in CASES[case].names:
        values = VALUES.read(f"{name}.weight")
        storage = recipe.storage(f"{name}.weight", values.shape)
        normal = np.where(np.abs(values) < 1e-37, np.float32(0), values)
        parts.append(_rounded(normal, storage))
    return np.concatenate(parts)


def _rounded(values: FloatArray, storage: Storage) -> NDArray[np.float64]:
    if storage.bits == 32:
        return values.astype(np.float64)
    if storage.bits == 8:
        codes, scales = blocks.eight_bit_rows(values)
        return codes * scales.astype(np.float64)[:, None]
    search = blocks.four_bits_searched if storage.method == "search" else blocks.four_bits
    codes, scales = search(values, 32, positive=True)
    halves = _bfloat16(scales)
    whole = (codes.astype(np.float64) - 8) * halves[..., None]
    return whole.reshape(len(values), -1)[:, : values.shape[1]]


def _bfloat16(scales: FloatArray) -> FloatArray:
    """Rounds to the nearest float with 8 bits of significand, to even between two."""
    bits = scales.view(np.uint32).astype(np.uint64)
    bits += 0x7FFF + (bits >> 16 & 1)
    return (bits & 0xFFFF0000).astype(np.uint32).view(np.float32)


def _in_8_bits(x: FloatArray) -> NDArray[np.float64]:
    """Rounds each position as XNNPACK does (xnn_f32_qd8_asymmetric_quantization_params)."""
    wide = x.astype(np.float64)
    least = np.minimum(wide.min(-1, keepdims=True), 0)
    most = np.maximum(wide.max(-1, keepdims=True), 0)
    scale = (most - least) / 255
    below, above = -128 + least / scale, 127 + most / scale
    zero = np.rint(
        np.clip(np.where(below + above > 0, -128 - least / scale, 127 - most / scale), -128, 127)
    )
    return (np.clip(np.rint(wide / scale + zero), -128, 127) - zero) * scale
