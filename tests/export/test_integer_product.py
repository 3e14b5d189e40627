"""The 8-bit product of towers is exact on every processor.

Signed weights by unsigned activations saturate on x86 without VNNI (vpmaddubsw adds two products in
16 bits): a sum of large products of one sign then comes out at about half.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from export.arrays import FloatArray
from export.manifest import Quantization
from export.onnx.data import new_data_file
from export.onnx.emit import Emit
from export.onnx.graph import IR_VERSION, OPSETS
from export.onnx.ledger import Ledger
from export.onnx.nodes import Nodes
from export.onnx.parameters import Parameters
from export.quantize.recipe import RECIPES

ROWS, COLUMNS = 32, 96


@dataclass(frozen=True)
class Large:
    """One matrix whose weights all round to the largest code or its opposite."""

    rows: int = ROWS
    synthetic = True
    origin: Mapping[str, Any] = field(default_factory=dict)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"v.a.weight": (self.rows, COLUMNS)}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        signs = np.where(np.arange(self.rows) % 2, -1, 1).astype(np.float32)
        return np.repeat(signs[:, None], COLUMNS, axis=1)[start:stop]


@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_large_products_do_not_saturate(recipe: str, tmp_path: Path) -> None:
    assert products_are_right(Large(), recipe, tmp_path).fallbacks == ()


def test_an_odd_number_of_outputs_keeps_8_bits_and_is_listed(tmp_path: Path) -> None:
    (found,) = products_are_right(Large(ROWS + 1), "int4", tmp_path).fallbacks
    assert (found.tensor, found.asked, found.got) == ("v.a.weight", "int4", "int8")


def products_are_right(weights: Large, recipe: str, tmp_path: Path) -> Quantization:
    x = ir.Value(name="x", shape=ir.Shape([2, COLUMNS]), type=ir.TensorType(ir.DataType.FLOAT))
    ledger = Ledger()
    with new_data_file(tmp_path / "a.onnx_data") as data:
        nodes = Nodes()
        parameters = Parameters(weights, RECIPES[recipe], data, ledger)
        ops = Emit(nodes, parameters, integer_matmul=True)
        y = ops.linear(x, "v.a")
        initializers = list(parameters.values.values())
    y.name, y.type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], [y], nodes=nodes, initializers=initializers, opset_imports=OPSETS)
    model = ir.to_proto(ir.Model(graph, ir_version=IR_VERSION)).SerializeToString()
    (tmp_path / "a.onnx").write_bytes(model)
    values = np.ones((2, COLUMNS), np.float32)
    values[1] = np.linspace(0, 1, COLUMNS)
    session = ort.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": values})
    np.testing.assert_allclose(found, values @ weights.read("v.a.weight").T, rtol=0.01)
    return ledger.result()
