"""The 8-bit product of towers is exact on every processor.

Signed weights by unsigned activations saturate on x86 without VNNI (vpmaddubsw adds two products in
16 bits): a sum of large products of one sign then comes out at about half.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from export.arrays import FloatArray
from export.manifest import Quantization
from export.onnx.data import new_data_file
from export.onnx.emit import Emit
from export.onnx.graph import IR_VERSION, OPSETS
from export.onnx.ledger import Ledger
from export.onnx.nodes import Nodes
from export.onnx.parameters import Parameters
from export.onnx.signed import signed
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


@pytest.mark.parametrize("recipe", ["int8", "int4"])
@pytest.mark.parametrize("rows", [ROWS, ROWS + 1])
def test_signed_weights_are_the_unsigned_ones_less_128(
    recipe: str, rows: int, tmp_path: Path
) -> None:
    products_are_right(Large(rows), recipe, tmp_path)
    unsigned = onnx.load(tmp_path / "a.onnx", load_external_data=False)
    other = signed(unsigned)
    assert other is not None
    found = [_weights(model, tmp_path) for model in (unsigned, other)]
    assert [codes.dtype for codes in found] == [np.uint8, np.int8]
    np.testing.assert_array_equal(found[0].astype(int) - 128, found[1])
    read = {name for node in other.graph.node for name in node.input}
    assert {tensor.name for tensor in other.graph.initializer} <= read


def test_a_graph_without_integer_products_has_no_signed_one() -> None:
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    assert signed(onnx.helper.make_model(graph)) is None


def _weights(model: onnx.ModelProto, folder: Path) -> NDArray[Any]:
    """The weights that a graph's product reads, as ONNX Runtime makes them of stored ones."""
    (product,) = (node for node in model.graph.node if node.op_type == "DynamicQuantizeMatMul")
    alone = onnx.ModelProto()
    alone.CopyFrom(model)
    alone.graph.node.remove(product)
    name = product.input[1]
    del alone.graph.output[:], alone.graph.input[:]
    if all(name not in node.output for node in alone.graph.node):
        alone.graph.node.append(onnx.helper.make_node("Identity", [name], ["codes"]))
        name = "codes"
    alone.graph.output.append(onnx.ValueInfoProto(name=name))
    (folder / "alone.onnx").write_bytes(alone.SerializeToString())
    session = ort.InferenceSession(folder / "alone.onnx", providers=["CPUExecutionProvider"])
    codes: NDArray[Any] = session.run(None, {})[0]
    return codes


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
