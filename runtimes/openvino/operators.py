"""Translates the operators of our graphs that OpenVINO 2026.4 refuses or lacks.

It asks for one scale where the weights of a 4-bit tower have one for each column, for the size of
heads where rotary embeddings follow from their tables, for a mask of floats, and has no
MRotaryEmbedding. Arithmetic is that of ONNX Runtime's documentation of each operator
(docs/ContribOperators.md); all else of the graphs is translated by OpenVINO itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from openvino import Extension
from openvino import opset15 as ops
from openvino.frontend import NodeContext
from openvino.frontend.onnx import ConversionExtension

MICROSOFT = "com.microsoft"
Values = NDArray[Any]


def extensions() -> tuple[Extension, ...]:
    """Returns what `Core.add_extension` takes, one for each operator."""
    return (
        ConversionExtension("QLinearMatMul", _quantized_product),
        ConversionExtension("RotaryEmbedding", MICROSOFT, _rotated_by_index),
        ConversionExtension("MRotaryEmbedding", MICROSOFT, _rotated_by_axes),
        ConversionExtension("MultiHeadAttention", MICROSOFT, _attention),
    )


def _quantized_product(node: NodeContext) -> list[Any]:
    """QLinearMatMul of constants, folded: 4-bit towers unpack their weights by it.

    A factor may have one scale for each column. Most products are with the identity matrix.
    """
    inputs = [_constant(node.get_input(i)) for i in range(node.get_input_size())]
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = inputs
    left, right = (a - a_zero) * a_scale, (b - b_zero) * b_scale
    same = left.ndim == 2 and np.array_equal(left, np.eye(*left.shape))
    product = right if same else left @ right
    codes = np.rint(product / scale) + zero
    return [ops.constant(np.clip(codes, 0, 255).astype(np.uint8)).output(0)]


def _constant(value: Any) -> Values:
    """Returns the float32 values of a constant, which may be cast to another type."""
    node = value.get_node()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        raise ValueError("QLinearMatMul of inputs that are not constant")
    values: Values = node.get_data(dtype=np.float32)
    return values


def _rotated_by_index(node: NodeContext) -> list[Any]:
    """RotaryEmbedding: x [B, S, heads * size], indices [B, S], cos and sin [positions, pairs]."""
    x, indices, *tables = (node.get_input(i) for i in range(4))
    dims = 2 * tables[0].get_partial_shape()[1].get_length()
    heads = node.get_attribute("num_heads", 0) or _width(x) // dims
    cos, sin = (ops.gather(table, indices, 0) for table in tables)
    return _rotated(x, heads, dims, cos, sin)


def _rotated_by_axes(node: NodeContext) -> list[Any]:
    """MRotaryEmbedding: as RotaryEmbedding, but indices [3, B, S] are time, row and column.

    The pairs of each section are rotated by one of the three.
    """
    x, indices, *tables = (node.get_input(i) for i in range(4))
    sections = node.get_attribute("mrope_section")
    axes = [ops.gather(indices, axis, 0) for axis in range(3)]

    def rows(table: Any) -> Any:
        parts = ops.variadic_split(table, 1, np.array(sections)).outputs()
        found = [ops.gather(part, axis, 0) for part, axis in zip(parts, axes, strict=True)]
        return ops.concat(found, -1)

    cos, sin = (rows(table) for table in tables)
    return _rotated(x, node.get_attribute("num_heads"), 2 * sum(sections), cos, sin)


def _rotated(x: Any, heads: int, dims: int, cos: Any, sin: Any) -> list[Any]:
    """Rotates the first `dims` values of each head of x [B, S, heads * size].

    Value i turns with value i + dims / 2. cos and sin are [B, S, dims / 2].
    """
    cos, sin = (ops.unsqueeze(table, 2) for table in (cos, sin))
    lengths = np.array([dims // 2, dims // 2, -1])
    first, second, rest = ops.variadic_split(_heads(x, heads), 3, lengths).outputs()
    turned = (
        ops.subtract(ops.multiply(first, cos), ops.multiply(second, sin)),
        ops.add(ops.multiply(first, sin), ops.multiply(second, cos)),
    )
    return [_joined(ops.concat([*turned, rest], 3), _width(x))]


def _attention(node: NodeContext) -> list[Any]:
    """MultiHeadAttention: query, key and value [B, S, heads * size] of a vision tower.

    The fifth input, if there is one, is a mask [B, S]: 0 hides a key.
    """
    query, key, value = (node.get_input(i) for i in range(3))
    heads, across = node.get_attribute("num_heads"), [0, 2, 1, 3]
    parts = (ops.transpose(_heads(x, heads), across) for x in (query, key, value))
    masks: Sequence[Any] = ()
    if node.get_input_size() > 4:
        seen = ops.convert(node.get_input(4), "boolean")
        masks = (ops.unsqueeze(seen, np.array([1, 2])),)
    attended = ops.scaled_dot_product_attention(*parts, *masks)
    return [_joined(ops.transpose(attended, across), _width(query))]


def _width(x: Any) -> int:
    length: int = x.get_partial_shape()[2].get_length()
    return length


def _heads(x: Any, heads: int) -> Any:
    """Splits x [B, S, heads * size] into [B, S, heads, size]."""
    return ops.reshape(x, np.array([0, 0, heads, -1]), True)


def _joined(x: Any, width: int) -> Any:
    """Undoes `_heads`."""
    return ops.reshape(x, np.array([0, 0, width]), True).output(0)
