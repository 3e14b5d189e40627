"""Turns a network's operations into ONNX nodes, the fused ones that ONNX Runtime runs fastest.

A tensor is an `ir.Value`. A weight becomes an initializer, and is written, when an operation first
uses it, so a graph and its weights are made in one pass. NOT aware of layouts, files or families.
"""

import math
from collections.abc import Sequence
from typing import assert_never

import onnx_ir as ir

from export.modeling.ops import Activation, Heads, NormKind, PatchOrder, TileGrid
from export.onnx.attention import CachedAttention
from export.onnx.grid import PatchGrid
from export.onnx.nodes import FLOAT, HALF, INT64_MAX, MICROSOFT, Attributes, Nodes
from export.onnx.parameters import Parameters
from export.quantize.recipe import Storage

# int8 activations inside MatMulNBits, one scale a block: up to 2.3 times float's rate on a CPU and
# the only fast 8-bit kernel (docs/reference/quantization.md). Every proof and report has its cost.
ACCURACY_LEVEL = 4
SAME_AS_INPUT = 0
"""Accuracy level of 4-bit products in float16: activations are not rounded. On a GPU they never
are, because the CUDA kernel does not read the level."""
MIDDLE, MIDDLE_OF_4 = 128, 8
"""The codes that stand for 0 in 8 and in 4 unsigned bits."""


class Emit:
    """Appends ONNX nodes for each operation of modeling.ops.Ops, and returns the node's result.

    nodes, parameters: the graph's nodes and initializers. integer_matmul: multiply quantized
    weights by integer products with one activation scale for each call (for compute-bound vision
    towers) instead of MatMulNBits (for bandwidth-bound decoding). portable: as in layouts.Layout.
    grid: the image's patches, for a tower that takes any image size. attention: the key-value
    cache, for a decoder.
    """

    def __init__(
        self,
        nodes: Nodes,
        parameters: Parameters,
        *,
        integer_matmul: bool = False,
        portable: bool = False,
        grid: PatchGrid | None = None,
        attention: CachedAttention | None = None,
    ) -> None:
        self._nodes = nodes
        self._parameters = parameters
        self._integer_matmul = integer_matmul
        self._portable = portable
        self._grid = grid
        self._attention = attention
        self._half = nodes.precision.compute == HALF

    def _node(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Attributes | None = None,
        domain: str = "",
        outputs: int = 1,
    ) -> tuple[ir.Value, ...]:
        """Appends a node and returns its outputs."""
        return self._nodes.many(op, inputs, attributes, domain, outputs)

    def linear(self, x: ir.Value, *names: str, bias: bool = False) -> ir.Value:
        storages = {self._parameters.storage(name) for name in names}
        if len(storages) > 1:  # a mixed recipe: one product each, then side by side
            parts = [self._nodes.narrow(self.linear(x, name, bias=bias)) for name in names]
            return self._node("Concat", parts, {"axis": -1})[0]
        storage = storages.pop()
        x = self._nodes.wide(x) if storage.bits == 32 else self._nodes.narrow(x)
        offset = self._offset(names, storage) if bias else None
        if not storage.quantized:
            return self._dense(x, names, storage.bits, offset)
        if self._integer_matmul:
            return self._integer(x, names, storage, offset)
        codes, scales = self._blocked(names, storage)
        attributes = {
            "K": self._parameters.columns(names[0]),
            "N": self._parameters.rows(names),
            "bits": storage.bits,
            "block_size": storage.block,
            "accuracy_level": self._accuracy_level(storage),
        }
        inputs = [x, codes, scales] + ([None, None, offset] if offset else [])
        return self._node("MatMulNBits", inputs, attributes, MICROSOFT)[0]

    def _accuracy_level(self, storage: Storage) -> int:
        exact = self._half and storage.bits == 4  # 8 bits have no fast kernel for float16
        return SAME_AS_INPUT if exact else ACCURACY_LEVEL

    def norm(self, x: ir.Value, name: str, kind: NormKind, eps: float) -> ir.Value:
        attributes = {"axis": -1, "epsilon": eps}
        inputs = [self._nodes.wide(x), self._parameters.vector(f"{name}.weight")]
        match kind:
            case "layer":
                inputs.append(self._parameters.vector(f"{name}.bias"))
                return self._node("LayerNormalization", inputs, attributes)[0]
            case "rms":
                return self._node("SimplifiedLayerNormalization", inputs, attributes)[0]
            case _:
                assert_never(kind)

    def add_norm(
        self, x: ir.Value, residual: ir.Value, name: str, kind: NormKind, eps: float
    ) -> tuple[ir.Value, ir.Value]:
        inputs = [self._nodes.wide(x), self._nodes.wide(residual)]
        inputs.append(self._parameters.vector(f"{name}.weight"))
        match kind:
            case "layer":
                inputs.append(self._parameters.vector(f"{name}.bias"))
                op = "SkipLayerNormalization"
            case "rms":
                op = "SkipSimplifiedLayerNormalization"
            case _:
                assert_never(kind)
        normed, _, _, total = self._node(op, inputs, {"epsilon": eps}, MICROSOFT, 4)
        return normed, total

    def add(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return self._node("Add", [self._nodes.wide(x), self._nodes.wide(y)])[0]

    def fourier(self, x: ir.Value) -> ir.Value:
        angle = self._node("Mul", [x, self._parameters.floats(2 * math.pi)])[0]
        parts = [self._node(op, [angle])[0] for op in ("Cos", "Sin")]
        return self._node("Concat", parts, {"axis": -1})[0]

    def activation(self, x: ir.Value, kind: Activation) -> ir.Value:
        match kind:
            case "silu":  # x * sigmoid(alpha x) with alpha = 1
                return self._node("QuickGelu", [x], {"alpha": 1.0}, MICROSOFT)[0]
            case "gelu":
                return self._node("Gelu", [x], None, MICROSOFT)[0]
            case "gelu_tanh":
                return self._node("FastGelu", [x], None, MICROSOFT)[0]
            case _:
                assert_never(kind)

    def gated(self, x: ir.Value, kind: Activation) -> ir.Value:
        gate, up = self._node("Split", [x], {"axis": -1, "num_outputs": 2}, outputs=2)
        return self._node("Mul", [self.activation(gate, kind), up])[0]

    def patches(
        self, pixels: ir.Value, channels: int, image_size: int, patch_size: int
    ) -> ir.Value:
        side = image_size // patch_size
        if image_size % patch_size:  # pixels beyond the last whole patch
            ends = (side * patch_size,) * 2
            inputs = (self._parameters.integers(*pair) for pair in ((0, 0), ends, (2, 3)))
            pixels = self._node("Slice", [pixels, *inputs])[0]
        grid = self._reshape(pixels, -1, channels, side, patch_size, side, patch_size)
        grid = self._node("Transpose", [grid], {"perm": [0, 2, 4, 1, 3, 5]})[0]
        return self._reshape(grid, -1, side * side, channels * patch_size * patch_size)

    def unsqueeze(self, x: ir.Value) -> ir.Value:
        return self._node("Unsqueeze", [x, self._parameters.integers(0)])[0]

    def add_parameter(self, x: ir.Value, name: str) -> ir.Value:
        inputs = [self._nodes.wide(x), self._parameters.vector(f"{name}.weight")]
        return self._node("Add", inputs)[0]

    def prepend(self, x: ir.Value, name: str) -> ir.Value:
        x, row = self._nodes.wide(x), self._parameters.vector(f"{name}.weight")
        tiles = self._node("Shape", [x], {"start": 0, "end": 1})[0]
        width = self._node("Shape", [x], {"start": 2, "end": 3})[0]
        shape = self._node("Concat", [tiles, self._parameters.integers(1), width], {"axis": 0})[0]
        rows = self._node("Expand", [row, shape])[0]
        return self._node("Concat", [rows, x], {"axis": 1})[0]

    def drop_first(self, x: ir.Value) -> ir.Value:
        one, end = self._parameters.integers(1), self._parameters.integers(INT64_MAX)
        return self._node("Slice", [x, one, end, one])[0]

    def pixel_shuffle(self, x: ir.Value, grid: TileGrid, scale: int) -> ir.Value:
        side = grid.side // scale
        cells = self._reshape(x, -1, side, scale, side, scale * grid.width)
        cells = self._node("Transpose", [cells], {"perm": [0, 1, 3, 2, 4]})[0]
        return self._reshape(cells, -1, side * side, scale * scale * grid.width)

    def average_pool(self, x: ir.Value, grid: TileGrid, scale: int) -> ir.Value:
        side = grid.side // scale
        cells = self._reshape(x, -1, side, scale, side, scale, grid.width)
        axes = self._parameters.integers(2, 4)
        pooled = self._node("ReduceMean", [cells, axes], {"keepdims": 0})[0]
        return self._reshape(pooled, -1, side * side, grid.width)

    def merge_patches(self, x: ir.Value, order: PatchOrder) -> ir.Value:
        return self._reshape(x, 1, -1, order.merge_size**2 * order.width)

    def tile_attention(self, q: ir.Value, k: ir.Value, v: ir.Value, heads: int) -> ir.Value:
        inputs = [self._nodes.narrow(part) for part in (q, k, v)]
        return self._node("MultiHeadAttention", inputs, {"num_heads": heads}, MICROSOFT)[0]

    def image_attention(
        self, q: ir.Value, k: ir.Value, v: ir.Value, order: PatchOrder, windowed: bool
    ) -> ir.Value:
        grid, attributes = self._grid, {"num_heads": order.heads}
        assert grid is not None, "a tower for images of any size needs their grid"
        query, key, value = (self._nodes.narrow(part) for part in (q, k, v))
        query, key = grid.rotated(query), grid.rotated(key)
        if not windowed:
            return self._node("MultiHeadAttention", [query, key, value], attributes, MICROSOFT)[0]
        parts = [grid.windows(part) for part in (query, key, value)]
        inputs = [*parts, None, grid.mask]
        attended = self._node("MultiHeadAttention", inputs, attributes, MICROSOFT)[0]
        return grid.image(attended)

    def cached_attention(
        self, qkv: ir.Value, layer: int, heads: Heads, norms: tuple[str, str] | None = None
    ) -> ir.Value:
        attention = self._attention
        assert attention is not None, "a decoder needs its cache"
        qkv = self._nodes.narrow(qkv)
        tables = attention.tables(heads.rope)
        if norms is None:
            return attention.attended((qkv, None, None), layer, heads, tables)
        parts = self._normed_heads(attention.split(qkv, heads), heads, norms)
        return attention.attended(parts, layer, heads, tables)

    def _normed_heads(
        self, parts: Sequence[ir.Value], heads: Heads, norms: tuple[str, str]
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Applies the RMS norms named `norms` to each head's query and to each head's key.

        Returns query, key and unchanged value, all [B, S, their heads * head_dim].
        """
        query, key, value = parts
        normed = []
        counts = (heads.heads, heads.kv_heads)
        for x, count, name in zip((query, key), counts, norms, strict=True):
            cells = self._reshape(x, 0, 0, count, heads.head_dim)
            cells = self.norm(cells, name, "rms", heads.norm_eps)
            normed.append(self._reshape(cells, 0, 0, count * heads.head_dim))
        query, key = (self._nodes.narrow(x) for x in normed)
        return query, key, value

    def embed(self, ids: ir.Value, name: str, scale: float = 1.0) -> ir.Value:
        rows = self._rows(ids, name)
        if scale == 1.0:
            return rows
        return self._node("Mul", [rows, self._parameters.floats(scale)])[0]

    def _rows(self, ids: ir.Value, name: str) -> ir.Value:
        storage = self._parameters.storage(name)
        if storage.quantized and self._portable:
            return self._dequantized(ids, name, storage)
        if storage.quantized:
            codes, scales = self._parameters.in_halves([name], storage, flat=True)
            attributes = {
                "bits": storage.bits,
                "block_size": storage.block,
                "gather_axis": 0,
                "quantize_axis": 1,
            }
            inputs = [codes, ids, scales]
            rows = self._node("GatherBlockQuantized", inputs, attributes, MICROSOFT)[0]
            return self._widened(rows, 16)
        table = self._parameters.dense([name], storage.bits, transposed=False)
        return self._widened(self._node("Gather", [table, ids])[0], storage.bits)

    def _dequantized(self, ids: ir.Value, name: str, storage: Storage) -> ir.Value:
        """Returns the rows `ids` of a quantized embedding, without GatherBlockQuantized.

        Values are rounded to float16, the type of the scales, as that operator does.
        """
        stored, scales = self._parameters.in_halves([name], storage)
        codes = self._node("Gather", [stored, ids])[0]  # [B, S, blocks, bytes of a block]
        if storage.bits == 4:
            codes = self._reshape(self._nibbles(codes), 0, 0, -1, storage.block)
        middle = MIDDLE_OF_4 if storage.bits == 4 else MIDDLE
        wide = self._cast(codes, FLOAT)
        centred = self._node("Sub", [wide, self._parameters.scalar(float(middle))])[0]
        factors = self._float(self._node("Gather", [scales, ids])[0], 16)
        factors = self._node("Unsqueeze", [factors, self._parameters.integers(-1)])[0]
        rows = self._node("Mul", [centred, factors])[0]
        rounded = self._cast(self._cast(rows, HALF), FLOAT)
        return self._reshape(rounded, 0, 0, self._parameters.columns(name))

    def _nibbles(self, packed: ir.Value) -> ir.Value:
        """Returns the two 4-bit codes of each byte on a new last axis, the low one first."""
        wide = self._node("Unsqueeze", [packed, self._parameters.integers(-1)])[0]
        shifts, mask = self._parameters.bytes(0, 4), self._parameters.bytes(0x0F)
        shifted = self._node("BitShift", [wide, shifts], {"direction": "RIGHT"})[0]
        return self._node("BitwiseAnd", [shifted, mask])[0]

    def _widened(self, rows: ir.Value, bits: int) -> ir.Value:
        """Casts rows of an embedding table, which are stored as `bits`-bit floats, to float32."""
        return self._nodes.wide(rows) if self._half else self._float(rows, bits)

    def last_tokens(self, x: ir.Value) -> ir.Value:
        assert self._attention is not None, "a decoder needs its cache"
        return self._attention.last_tokens(x)

    def _offset(self, names: Sequence[str], storage: Storage) -> ir.Value:
        """Returns the concatenated biases of `names`, in the float type of the matrix product."""
        bits = 16 if self._half and storage.bits != 32 else 32
        return self._parameters.vector(*(f"{name}.bias" for name in names), bits=bits)

    def _dense(
        self, x: ir.Value, names: Sequence[str], bits: int, offset: ir.Value | None
    ) -> ir.Value:
        rows = self._parameters.has_rows(names, bits)  # a tied head: the table of the embedding
        weight = self._float(self._parameters.dense(names, bits, transposed=not rows), bits)
        if rows:
            product = self._node("FusedMatMul", [x, weight], {"transB": 1}, MICROSOFT)[0]
        else:
            product = self._node("MatMul", [x, weight])[0]
        return self._node("Add", [product, offset])[0] if offset else product

    def _integer(
        self, x: ir.Value, names: Sequence[str], storage: Storage, offset: ir.Value | None
    ) -> ir.Value:
        """Multiplies `x`, rounded to 8 bits, by 8-bit weights, and adds `offset`.

        4-bit weights have 4 bits on disk; nodes turn them into 8 (_unpacked). Codes are unsigned
        around 128: with signed ones, x86 without VNNI adds pairs of products in 16 bits that
        saturate, and single outputs are wrong by a tenth of the largest.
        """
        odd = any(self._parameters.rows([name]) % 2 for name in names)
        unpacked = storage.bits == 4 and not odd
        packed = self._unpacked if unpacked else self._parameters.uint8_columns
        weight, scales = packed(names, storage)
        inputs = [x, weight, scales, self._parameters.bytes(MIDDLE), offset]
        return self._node("DynamicQuantizeMatMul", inputs, None, MICROSOFT)[0]

    def _blocked(self, names: Sequence[str], storage: Storage) -> tuple[ir.Value, ir.Value]:
        """Returns a weight's codes and scales for MatMulNBits.

        The scales are computed from stored ones by nodes that ONNX Runtime folds when a session
        loads, or by the export (Parameters.folded). They have the float type of the product.
        """
        if self._parameters.folded:
            return self._parameters.in_floats(names, storage)
        if self._parameters.has_half_scales(names):
            codes, scales = self._parameters.in_halves(names, storage)
            return codes, self._float(scales, 16)
        codes, factors, scales = self._parameters.blocked(names, storage)
        wide = self._cast(factors, FLOAT)
        return codes, self._node("Mul", [wide, scales])[0]

    def _unpacked(self, names: Sequence[str], storage: Storage) -> tuple[ir.Value, ir.Value]:
        """Unpacks 4-bit weights to uint8 [columns, rows] around 128; also returns scales [rows]."""
        unpack = self._unpacked_at_run if self._portable else self._unpacked_at_load
        wide, scales = unpack(names, storage)  # [blocks, block, rows]
        wide = self._reshape(wide, -1, self._parameters.rows(names))
        columns = self._parameters.columns(names[0])
        if self._parameters.pads(columns, storage):
            start, end = (self._parameters.integers(n) for n in (0, columns))
            wide = self._node("Slice", [wide, start, end])[0]
        return wide, scales

    def _unpacked_at_load(
        self, names: Sequence[str], storage: Storage
    ) -> tuple[ir.Value, ir.Value]:
        """Unpacks 4-bit weights by nodes that ONNX Runtime folds when a session loads.

        It holds the output of each node until all weights of a graph are folded, so there are as
        few nodes as possible: a product with the identity matrix multiplies each block by its
        factor and shifts it to 128.
        """
        codes, factors, scales, identity = self._parameters.int4_columns(names, storage)
        wide, by = self._cast(codes, ir.DataType.UINT8), self._cast(factors, FLOAT)
        one, middle = self._parameters.scalar(1.0), self._parameters.bytes(MIDDLE)
        zero, middle_of_4 = (self._parameters.bytes(n) for n in (0, MIDDLE_OF_4))
        inputs = [identity, one, zero, wide, by, middle_of_4, one, middle]
        return self._node("QLinearMatMul", inputs)[0], scales

    def _unpacked_at_run(self, names: Sequence[str], storage: Storage) -> tuple[ir.Value, ir.Value]:
        """Unpacks 4-bit weights in every run: QLinearMul is not folded.

        The two halves of a byte are multiplied by their block's factor where they are: the high one
        counts 16 times, so its scale is 1/16 and its zero 16 * 8.
        """
        packed, factors, scales = self._parameters.int4_halves(names, storage)
        one, middle = self._parameters.scalar(1.0), self._parameters.bytes(MIDDLE)
        halves = ((0x0F, 1.0, MIDDLE_OF_4), (0xF0, 1 / 16, 16 * MIDDLE_OF_4))
        parts = []
        for mask, scale, zero in halves:
            half = self._node("BitwiseAnd", [packed, self._parameters.bytes(mask)])[0]
            read = [half, self._parameters.scalar(scale), self._parameters.bytes(zero)]
            inputs = [*read, factors, one, middle, one, middle]
            parts.append(self._node("QLinearMul", inputs, None, MICROSOFT)[0])
        return self._node("Concat", parts, {"axis": -2})[0], scales

    def _cast(self, x: ir.Value, dtype: ir.DataType) -> ir.Value:
        return self._node("Cast", [x], {"to": int(dtype)})[0]

    def _float(self, x: ir.Value, bits: int) -> ir.Value:
        """Casts weights stored as `bits`-bit floats to the float type of their product."""
        if bits == 32 or self._half:
            return x
        return self._cast(x, FLOAT)

    def _reshape(self, x: ir.Value, *shape: int) -> ir.Value:
        return self._node("Reshape", [x, self._parameters.integers(*shape)])[0]
