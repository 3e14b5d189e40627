"""Tells of .ort files, before they are written, their operators and about how large they are."""

from collections.abc import Iterable, Mapping
from itertools import groupby

import onnx.defs
import onnx_ir as ir

from export.errors import UserError
from export.onnx.target import SIZE_ERROR

OPERATORS = "required_operators.config"
"""Name of the list that a reduced build of ONNX Runtime is made from, as its own tool calls it."""
LIMIT = 2**31 - 1
"""Most bytes of a file: offsets in a flatbuffer have 32 bits, one of them a sign."""
OF_GRAPH, OPERATOR, VALUE = 1.1, 460, 250
"""Bytes of a file that are no weight: for each byte of the ONNX graph (names, attributes), for each
kind of operator in it, and for each value that it takes or computes."""

Operator = tuple[str, int, str]
"""Domain, first opset with this version, and type of an operator."""


def operators_of(graph: ir.Model) -> frozenset[Operator]:
    """Returns the operators that a graph needs."""
    opsets = graph.opset_imports
    return frozenset(
        (node.domain or "ai.onnx", _since(node, opsets[node.domain]), node.op_type)
        for node in graph.graph
    )


def _since(node: ir.Node, opset: int) -> int:
    """Returns the opset since which a node's operator is as it is; ONNX Runtime's own: 1."""
    if node.domain or not onnx.defs.has(node.op_type):
        return 1
    return onnx.defs.get_schema(node.op_type, opset).since_version


def operator_list(operators: Iterable[Operator]) -> bytes:
    """Returns the content of OPERATORS: a line for each domain and version, without file names."""
    lines = ["# For ONNX Runtime's build.sh --include_ops_by_config\n"]
    for (domain, since), group in groupby(sorted(operators), lambda operator: operator[:2]):
        lines.append(f"{domain};{since};{','.join(name for *_, name in group)}\n")
    return "".join(lines).encode()


def estimated_bytes(graph: ir.Model) -> int:
    """Returns about how many bytes the .ort file of a graph has (SIZE_ERROR)."""
    inner = graph.graph
    constants = [value.const_value for value in inner.initializers.values()]
    weights = sum(tensor.nbytes for tensor in constants if tensor is not None)
    values = len(inner.inputs) + sum(bool(v.name) for node in inner for v in node.outputs)
    structure = OF_GRAPH * ir.to_proto(graph).ByteSize() + VALUE * values
    return int(weights + structure + OPERATOR * len(operators_of(graph)))


def expect_fitting(sizes: Mapping[str, int]) -> None:
    """Raises UserError if a file of the predicted `sizes` may exceed what an .ort file can have."""
    name, size = max(sizes.items(), key=lambda item: item[1])
    if size * (1 + SIZE_ERROR) > LIMIT:
        raise UserError(
            f"--layout ort: {name} would have {size / 1e9:.2f} GB, and an .ort file ends at "
            f"{LIMIT / 1e9:.2f} GB; choose a recipe with fewer bits, or export with --layout native"
        )
