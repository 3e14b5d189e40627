"""The nodes of a graph under construction, named in their order, and the floats they compute in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

MICROSOFT = "com.microsoft"
INT64_MAX = int(np.iinfo(np.int64).max)

FLOAT, HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
OWN_TYPE = frozenset({"Cast", "Shape", "ArgMax"})
"""Operators whose output type does not follow from their inputs'."""
Attributes = Mapping[str, int | float | str | Sequence[int]]


@dataclass(frozen=True)
class Precision:
    """The floats of matrix products, attention and its cache; all else is float32.

    `compute` float16 is for GPUs. There the residual stream and norms stay float32, because trained
    models leave float16's range in it (Gemma 3 was trained in bfloat16) and it costs two casts
    where a layer joins the stream. Weights of 32 bits are multiplied in float32.
    """

    compute: ir.DataType = FLOAT


SINGLE, MIXED = Precision(), Precision(HALF)


class Nodes(list[ir.Node]):
    """A list of nodes that grows by `many` and `add`, and casts in `cast` alone."""

    def __init__(self, precision: Precision = SINGLE) -> None:
        super().__init__()
        self.precision = precision
        self._casts: dict[ir.Value, ir.Value] = {}

    def cast(self, x: ir.Value, dtype: ir.DataType) -> ir.Value:
        """`x` as these floats; the same value is cast once."""
        if self.precision.compute == FLOAT or (x.dtype == HALF) == (dtype == HALF):
            return x
        if x not in self._casts:
            self._casts[x] = self.add("Cast", [x], {"to": int(dtype)})
            self._casts[x].type = ir.TensorType(dtype)
        return self._casts[x]

    def wide(self, x: ir.Value) -> ir.Value:
        """`x` as float32."""
        return self.cast(x, FLOAT)

    def narrow(self, x: ir.Value) -> ir.Value:
        """`x` as the floats of products and attention."""
        return self.cast(x, self.precision.compute)

    def many(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Attributes | None = None,
        domain: str = "",
        outputs: int = 1,
    ) -> tuple[ir.Value, ...]:
        """Append a node and return its outputs."""
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
        """Append a node and return its one output."""
        return self.many(op, inputs, attributes, domain)[0]

    def _type_outputs(self, node: ir.Node) -> None:
        """What an operator makes of a float16 input is float16."""
        if any(x is not None and x.dtype == HALF for x in node.inputs):
            for output in node.outputs:
                output.type = ir.TensorType(HALF)


def _attribute(name: str, value: int | float | str | Sequence[int]) -> ir.Attr:
    """By the value's own type; onnx-ir's conversion tries every kind there is on each value."""
    if isinstance(value, int):
        return ir.AttrInt64(name, value)
    if isinstance(value, float):
        return ir.AttrFloat32(name, value)
    if isinstance(value, str):
        return ir.AttrString(name, value)
    return ir.AttrInt64s(name, value)
