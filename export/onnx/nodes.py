"""The nodes of a graph in the making, named in their order. NOT aware of what they compute."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

MICROSOFT = "com.microsoft"
INT64_MAX = int(np.iinfo(np.int64).max)

Attributes = Mapping[str, int | float | str | Sequence[int]]


class Nodes(list[ir.Node]):
    """A list of nodes that grows by `many` and `add`."""

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


def _attribute(name: str, value: int | float | str | Sequence[int]) -> ir.Attr:
    """By the value's own type; onnx-ir's conversion tries every kind there is on each value."""
    if isinstance(value, int):
        return ir.AttrInt64(name, value)
    if isinstance(value, float):
        return ir.AttrFloat32(name, value)
    if isinstance(value, str):
        return ir.AttrString(name, value)
    return ir.AttrInt64s(name, value)
