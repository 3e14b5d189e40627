"""Derives the graph whose integer products take signed weights, from the one with unsigned weights.

Both read the same data file. Which of them is right depends on the CPU: with VNNI's instructions
products of signed weights are exact and more than twice as fast, without them sums of two products
saturate in 16 bits (docs/reference/quantization.md).
"""

from collections.abc import Iterator, Sequence

import onnx
from onnx import TensorProto, helper

PRODUCT = "DynamicQuantizeMatMul"
SHAPES = ("Reshape", "Slice")
"""What may stand between unpacked weights and their product."""


def signed(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Returns the graph with signed weights; None if it has no product of 8-bit weights."""
    if all(node.op_type != PRODUCT for node in model.graph.node):
        return None
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = _Graph(changed.graph)
    nodes: list[onnx.NodeProto] = []
    for node in changed.graph.node:
        if node.op_type == PRODUCT:
            nodes += graph.sign(node)
        nodes.append(node)
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    graph.prune()
    return changed


class _Graph:
    """A graph that is changed: its nodes by their output, its initializers by their name."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._nodes = {name: node for node in graph.node for name in node.output}
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}

    def sign(self, product: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
        """Makes the weights of a product signed; returns nodes to insert before it."""
        middle, product.input[3] = product.input[3], self._byte(0)
        value = product.input[1]
        while value in self._nodes and self._nodes[value].op_type in SHAPES:
            value = self._nodes[value].input[0]
        if value in self._nodes:
            self._unpack_signed(self._nodes[value])
            return ()
        inserted = tuple(_shifted(value, middle))
        product.input[1] = inserted[-1].output[0]
        return inserted

    def _unpack_signed(self, unpack: onnx.NodeProto) -> None:
        """Lets the node that unpacks 4-bit weights have signed bytes (Emit._unpacked_at_load)."""
        assert unpack.op_type == "QLinearMatMul"
        unpack.input[0] = self._retyped(unpack.input[0])
        for place, value in ((2, 0), (5, 8), (7, 0)):
            unpack.input[place] = self._byte(value)
        cast = self._nodes[unpack.input[3]]
        del cast.attribute[:]
        cast.attribute.append(helper.make_attribute("to", TensorProto.INT8))

    def _byte(self, value: int) -> str:
        """Returns the name of a signed constant."""
        name = f"int8.{value}"
        if name not in self._tensors:
            self._add(helper.make_tensor(name, TensorProto.INT8, [], [value]))
        return name

    def _retyped(self, name: str) -> str:
        """Returns the name of a tensor with the same bytes below 128, read as signed ones."""
        new = f"{name}.signed"
        if new not in self._tensors:
            tensor = TensorProto()
            tensor.CopyFrom(self._tensors[name])
            tensor.name, tensor.data_type = new, TensorProto.INT8
            self._add(tensor)
        return new

    def _add(self, tensor: TensorProto) -> None:
        self._tensors[tensor.name] = tensor
        self._graph.initializer.append(tensor)

    def prune(self) -> None:
        """Removes initializers that no node reads."""
        read = {name for node in self._graph.node for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)


def _shifted(codes: str, middle: str) -> Iterator[onnx.NodeProto]:
    """Yields nodes that subtract `middle`, 128, from codes; ONNX Runtime folds them."""
    flipped, out = f"{codes}.flipped", f"{codes}.signed"
    yield helper.make_node("BitwiseXor", [codes, middle], [flipped], name=flipped)
    yield helper.make_node("Cast", [flipped], [out], name=out, to=TensorProto.INT8)
