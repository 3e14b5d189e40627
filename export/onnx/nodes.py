"""Collects the nodes of an ONNX graph under construction, with their names and float types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

MICROSOFT = "com.microsoft"
INT64_MAX = int(np.iinfo(np.int64).max)

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
OWN_TYPE = frozenset({"Cast", "Shape", "ArgMax"})
"""Operators whose output is not float16 just because an input is."""
Attributes = Mapping[str, int | float | str | Sequence[int]]


@dataclass(frozen=True)
class Precision:
    """The float types of a graph: `compute` for matrix products, attention and its cache.

    Everything else is float32. `compute` is float16 only for GPUs. There the residual stream and
    norms stay float32, because trained models leave float16's range in the stream (Gemma 3 was
    trained in bfloat16), and this costs only two casts where a layer joins it. Weights of 32 bits
    are multiplied in float32.
    """

    compute: ir.DataType = FLOAT


SINGLE, MIXED = Precision(), Precision(HALF)


class Nodes(list[ir.Node]):
    """The nodes of an ONNX graph under construction, in order.

    `add` appends a node with one output and `many` one with several. `cast` appends a node that
    converts floats to another type, if they have not got it.
    """

    def __init__(self, precision: Precision = SINGLE) -> None:
        super().__init__()
        self.precision = precision
        self._casts: dict[ir.Value, ir.Value] = {}

    def cast(self, x: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Returns `x` as float32 or float16 (`dtype`); a repeated call adds no second Cast node.

        In a float32 graph, and if `x` already has the type, it is `x` itself.
        """
        if self.precision.compute == FLOAT or (x.dtype == HALF) == (dtype == HALF):
            return x
        if x not in self._casts:
            self._casts[x] = self.add("Cast", [x], {"to": int(dtype)})
            self._casts[x].type = ir.TensorType(dtype)
        return self._casts[x]

    def wide(self, x: ir.Value) -> ir.Value:
        """Returns `x` cast to float32."""
        return self.cast(x, FLOAT)

    def narrow(self, x: ir.Value) -> ir.Value:
        """Returns `x` cast to the float type of matrix products and attention (Precision)."""
        return self.cast(x, self.precision.compute)

    def many(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Attributes | None = None,
        domain: str = "",
        outputs: int = 1,
    ) -> tuple[ir.Value, ...]:
        """Appends a node of the operator `op` and returns its outputs."""
        attributes_ = [_attribute(*item) for item in (attributes or {}).items()]
        node = ir.Node(domain, op, inputs, attributes_, num_outputs=outputs)
        node.name = f"{op}_{len(self)}"
        for i, output in enumerate(node.outputs):
            output.name = f"{node.name}.{i}"
        if self.precision.compute == HALF and op not in OWN_TYPE:
            self._type_outputs(node)
        self.append(node)
        return tuple(node.outputs)

    def add(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Attributes | None = None,
        domain: str = "",
    ) -> ir.Value:
        """Appends a node of the operator `op` and returns its first output."""
        return self.many(op, inputs, attributes, domain)[0]

    def _type_outputs(self, node: ir.Node) -> None:
        """Gives all outputs of `node` the type float16 if any of its inputs is float16."""
        if any(x is not None and x.dtype == HALF for x in node.inputs):
            for output in node.outputs:
                output.type = ir.TensorType(HALF)


def _attribute(name: str, value: int | float | str | Sequence[int]) -> ir.Attr:
    """Makes a node's attribute of the ONNX type that fits the value's Python type.

    It is faster than onnx-ir's conversion, which tries all attribute types on each value.
    """
    if isinstance(value, int):
        return ir.AttrInt64(name, value)
    if isinstance(value, float):
        return ir.AttrFloat32(name, value)
    if isinstance(value, str):
        return ir.AttrString(name, value)
    return ir.AttrInt64s(name, value)
