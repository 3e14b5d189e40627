"""Ops as ONNX nodes: the fused operators that ONNX Runtime's CPU kernels run fastest.

NOT aware of layouts, files or families. A tensor is an `ir.Value`; weights become initializers as
they are met, so a graph is emitted and its weights are written in one pass.
"""

import math
from collections.abc import Sequence
from functools import partial

import onnx_ir as ir

from export.families.geometry import Activation, Decoder, NormKind, Rope, Tower
from export.onnx.grid import PatchGrid
from export.onnx.mask import Masks
from export.onnx.nodes import INT64_MAX, MICROSOFT, Attributes, Nodes
from export.onnx.parameters import Parameters
from export.quantize.recipe import Storage
from export.rotary import STORED_POSITIONS, rotary_tables
from export.weights import FloatArray

# int8 activations inside MatMulNBits, one scale a block: up to 2.3 times float's rate on a CPU and
# the only fast 8-bit kernel (docs/reference/quantization.md). Every proof and report has its cost.
ACCURACY_LEVEL = 4
FLOAT = ir.DataType.FLOAT
MIDDLE, MIDDLE_OF_4 = 128, 8
"""The codes that stand for 0 in 8 and in 4 unsigned bits."""


class Emit:
    """Ops that append nodes to a graph.

    `int8_matmul` chooses integer matrix products with one activation scale a call for quantized
    weights (compute-bound towers) instead of MatMulNBits (bandwidth-bound decoding).
    """

    accuracy_level = ACCURACY_LEVEL
    kept = FLOAT
    """The type of what attention reads and of its cache."""

    def __init__(self, parameters: Parameters, int8_matmul: bool = False) -> None:
        self._parameters = parameters
        self._int8_matmul = int8_matmul
        self._rotary: dict[Rope, tuple[ir.Value, ir.Value]] = {}
        self.nodes = Nodes()
        self.inputs: dict[str, ir.Value] = {}
        self.presents: list[ir.Value] = []
        self.past: list[tuple[ir.Value, ir.Value]] = []
        self.masks: Masks | None = None
        self.grid: PatchGrid | None = None

    def node(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Attributes | None = None,
        domain: str = "",
        outputs: int = 1,
    ) -> tuple[ir.Value, ...]:
        """Append a node and return its outputs."""
        return self.nodes.many(op, inputs, attributes, domain, outputs)

    def wide(self, x: ir.Value) -> ir.Value:
        """`x` as float32, which all values are here."""
        return x

    def linear(self, x: ir.Value, *names: str, bias: bool = False) -> ir.Value:
        storages = {self._parameters.storage(name) for name in names}
        if len(storages) > 1:  # a mixed recipe: one product each, then side by side
            parts = [self.linear(x, name, bias=bias) for name in names]
            return self.node("Concat", parts, {"axis": -1})[0]
        storage = storages.pop()
        offset = self._offset(names) if bias else None
        if not storage.quantized:
            return self._dense(x, names, storage.bits, offset)
        if self._int8_matmul:
            return self._integer(x, names, storage, offset)
        codes, scales = self._blocked(names, storage)
        attributes = {
            "K": self._parameters.columns(names[0]),
            "N": self._parameters.rows(names),
            "bits": storage.bits,
            "block_size": storage.block,
            "accuracy_level": self.accuracy_level,
        }
        inputs = [x, codes, scales] + ([None, None, offset] if offset else [])
        return self.node("MatMulNBits", inputs, attributes, MICROSOFT)[0]

    def norm(self, x: ir.Value, name: str, kind: NormKind, eps: float) -> ir.Value:
        attributes = {"axis": -1, "epsilon": eps}
        weight = self._parameters.vector(f"{name}.weight")
        if kind == "layer":
            bias = self._parameters.vector(f"{name}.bias")
            return self.node("LayerNormalization", [x, weight, bias], attributes)[0]
        return self.node("SimplifiedLayerNormalization", [x, weight], attributes)[0]

    def add_norm(
        self, x: ir.Value, residual: ir.Value, name: str, kind: NormKind, eps: float
    ) -> tuple[ir.Value, ir.Value]:
        inputs = [x, residual, self._parameters.vector(f"{name}.weight")]
        op = "SkipSimplifiedLayerNormalization"
        if kind == "layer":
            inputs.append(self._parameters.vector(f"{name}.bias"))
            op = "SkipLayerNormalization"
        normed, _, _, total = self.node(op, inputs, {"epsilon": eps}, MICROSOFT, 4)
        return normed, total

    def add(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return self.node("Add", [x, y])[0]

    def fourier(self, x: ir.Value) -> ir.Value:
        angle = self.node("Mul", [x, self._parameters.floats(2 * math.pi)])[0]
        parts = [self.node(op, [angle])[0] for op in ("Cos", "Sin")]
        return self.node("Concat", parts, {"axis": -1})[0]

    def activation(self, x: ir.Value, kind: Activation) -> ir.Value:
        if kind == "silu":  # x * sigmoid(alpha x) with alpha = 1
            return self.node("QuickGelu", [x], {"alpha": 1.0}, MICROSOFT)[0]
        if kind == "gelu":
            return self.node("Gelu", [x], None, MICROSOFT)[0]
        return self.node("FastGelu", [x], None, MICROSOFT)[0]

    def gated(self, x: ir.Value, kind: Activation) -> ir.Value:
        gate, up = self.node("Split", [x], {"axis": -1, "num_outputs": 2}, outputs=2)
        return self.node("Mul", [self.activation(gate, kind), up])[0]

    def patches(self, pixels: ir.Value, vision: Tower) -> ir.Value:
        if vision.positions == "rotary":
            return self.node("Unsqueeze", [pixels, self._parameters.integers(0)])[0]
        size, side = vision.patch_size, vision.side
        if vision.image_size % size:  # pixels that fill no patch
            zeros, ends, axes = (
                self._parameters.integers(*pair) for pair in ((0, 0), (side * size,) * 2, (2, 3))
            )
            pixels = self.node("Slice", [pixels, zeros, ends, axes])[0]
        grid = self._reshape(pixels, -1, vision.channels, side, size, side, size)
        grid = self.node("Transpose", [grid], {"perm": [0, 2, 4, 1, 3, 5]})[0]
        return self._reshape(grid, -1, side * side, vision.channels * size * size)

    def add_parameter(self, x: ir.Value, name: str) -> ir.Value:
        return self.node("Add", [x, self._parameters.vector(f"{name}.weight")])[0]

    def pixel_shuffle(self, x: ir.Value, vision: Tower, scale: int) -> ir.Value:
        side = vision.side // scale
        grid = self._reshape(x, -1, side, scale, side, scale * vision.hidden)
        grid = self.node("Transpose", [grid], {"perm": [0, 1, 3, 2, 4]})[0]
        return self._reshape(grid, -1, side * side, scale * scale * vision.hidden)

    def average_pool(self, x: ir.Value, vision: Tower, scale: int) -> ir.Value:
        side = vision.side // scale
        grid = self._reshape(x, -1, side, scale, side, scale, vision.hidden)
        axes = self._parameters.integers(2, 4)
        pooled = self.node("ReduceMean", [grid, axes], {"keepdims": 0})[0]
        return self._reshape(pooled, -1, side * side, vision.hidden)

    def merge_squares(self, x: ir.Value, vision: Tower) -> ir.Value:
        return self._reshape(x, 1, -1, vision.square**2 * vision.hidden)

    def patch_attention(
        self, q: ir.Value, k: ir.Value, v: ir.Value, vision: Tower, layer: int
    ) -> ir.Value:
        attributes = {"num_heads": vision.heads}
        if self.grid is None:
            return self.node("MultiHeadAttention", [q, k, v], attributes, MICROSOFT)[0]
        query, key = self.grid.turned(q), self.grid.turned(k)
        if vision.reach(layer) is None:
            return self.node("MultiHeadAttention", [query, key, v], attributes, MICROSOFT)[0]
        parts = [self.grid.windows(part) for part in (query, key, v)]
        inputs = [*parts, None, self.grid.seen]
        attended = self.node("MultiHeadAttention", inputs, attributes, MICROSOFT)[0]
        return self.grid.image(attended)

    def cached_attention(
        self, qkv: ir.Value, layer: int, text: Decoder, norms: tuple[str, str] | None = None
    ) -> ir.Value:
        tables: list[ir.Value | None] = [*self._rotary_tables(text.rope(layer), text)]
        new: list[ir.Value | None] = [qkv, None, None]
        if norms is not None:
            new = self._normed_heads(qkv, text, norms)
        if text.rope_sections is not None:
            new, tables = self._turned_heads(qkv, text, text.rope_sections, tables), [None, None]
        lengths = [self.inputs["seqlens_k"], self.inputs["total_sequence_length"]]
        inputs = [*new, *self.past[layer], *lengths, *tables]
        attributes: dict[str, int | float] = {
            "num_heads": text.heads,
            "kv_num_heads": text.kv_heads,
            "do_rotary": int(text.rope_sections is None),
        }
        if text.attention_scale is not None:
            attributes["scale"] = text.attention_scale
        window = text.window(layer)
        if self.masks is not None:
            inputs += [None, self.masks.bias(window)]
            attributes["causal"] = 0  # the bias has it
        elif window is not None:
            attributes["local_window_size"] = window
        attended, *present = self.node("GroupQueryAttention", inputs, attributes, MICROSOFT, 3)
        self.presents += present
        return attended

    def _normed_heads(
        self, qkv: ir.Value, text: Decoder, norms: tuple[str, str]
    ) -> list[ir.Value | None]:
        """Query, key and value [B, S, their heads * head_dim], the first two normed by heads."""
        query, key, value = self._heads(qkv, text)
        normed = []
        counts = (text.heads, text.kv_heads)
        for x, count, name in zip((query, key), counts, norms, strict=True):
            heads = self._reshape(x, 0, 0, count, text.head_dim)
            heads = self.norm(heads, name, "rms", text.norm_eps)
            normed.append(self._reshape(heads, 0, 0, count * text.head_dim))
        return [*normed, value]

    def _turned_heads(
        self,
        qkv: ir.Value,
        text: Decoder,
        sections: tuple[int, int, int],
        tables: Sequence[ir.Value | None],
    ) -> list[ir.Value | None]:
        """Query, key and value [B, S, their heads * head_dim], turned by time, row and column."""
        query, key, value = self._heads(qkv, text)
        turned: list[ir.Value | None] = []
        for part, heads in ((query, text.heads), (key, text.kv_heads)):
            attributes: dict[str, int | tuple[int, ...]] = {
                "mrope_section": sections,
                "num_heads": heads,
                "rotary_embedding_dim": text.head_dim,
            }
            inputs = [part, self.inputs["position_ids"], *tables]
            turned += self.node("MRotaryEmbedding", inputs, attributes, MICROSOFT)
        return [*turned, value]

    def _heads(self, qkv: ir.Value, text: Decoder) -> tuple[ir.Value, ...]:
        """Query, key and value, each with its heads side by side."""
        counts = (text.heads, text.kv_heads, text.kv_heads)
        sizes = self._parameters.integers(*(count * text.head_dim for count in counts))
        return self.node("Split", [qkv, sizes], {"axis": -1}, outputs=3)

    def embed(self, ids: ir.Value, name: str, scale: float = 1.0) -> ir.Value:
        rows = self._rows(ids, name)
        if scale == 1.0:
            return rows
        return self.node("Mul", [rows, self._parameters.floats(scale)])[0]

    def _rows(self, ids: ir.Value, name: str) -> ir.Value:
        storage = self._parameters.storage(name)
        if storage.quantized:
            codes, scales = self._parameters.in_halves([name], storage, flat=True)
            attributes = {
                "bits": storage.bits,
                "block_size": storage.block,
                "gather_axis": 0,
                "quantize_axis": 1,
            }
            inputs = [codes, ids, scales]
            rows = self.node("GatherBlockQuantized", inputs, attributes, MICROSOFT)[0]
            return self._float(rows, 16)
        table = self._parameters.dense([name], storage.bits, transposed=False)
        return self._float(self.node("Gather", [table, ids])[0], storage.bits)

    def wanted(self, x: ir.Value) -> ir.Value:
        """The last `num_logits_to_keep` positions; 0 keeps all of them (-0 starts at the front).

        Without that input, the last one.
        """
        if "num_logits_to_keep" in self.inputs:
            start = self._reshape(self.inputs["num_logits_to_keep"], 1)
            start = self.node("Neg", [start])[0]
        else:
            start = self._parameters.integers(-1)
        ends, axes = self._parameters.integers(INT64_MAX), self._parameters.integers(1)
        return self.node("Slice", [x, start, ends, axes])[0]

    def _offset(self, names: Sequence[str]) -> ir.Value:
        return self._parameters.vector(*(f"{name}.bias" for name in names))

    def _dense(
        self, x: ir.Value, names: Sequence[str], bits: int, offset: ir.Value | None
    ) -> ir.Value:
        rows = self._parameters.has_rows(names, bits)  # a tied head: the table of the embedding
        weight = self._float(self._parameters.dense(names, bits, transposed=not rows), bits)
        if rows:
            product = self.node("FusedMatMul", [x, weight], {"transB": 1}, MICROSOFT)[0]
        else:
            product = self.node("MatMul", [x, weight])[0]
        return self.node("Add", [product, offset])[0] if offset else product

    def _integer(
        self, x: ir.Value, names: Sequence[str], storage: Storage, offset: ir.Value | None
    ) -> ir.Value:
        """8-bit weights by 8-bit activations; 4-bit weights become 8 once, when a session loads.

        ONNX Runtime folds the constant part, so on disk the weight has 4 bits and in use 8. Codes
        are unsigned around 128: with signed ones, x86 without VNNI adds pairs of products in 16
        bits that saturate, and single outputs are wrong by a tenth of the largest.
        """
        odd = any(self._parameters.rows([name]) % 2 for name in names)
        unpacked = storage.bits == 4 and not odd
        packed = self._unpacked if unpacked else self._parameters.uint8_columns
        weight, scales = packed(names, storage)
        inputs = [x, weight, scales, self._parameters.bytes(MIDDLE), offset]
        return self.node("DynamicQuantizeMatMul", inputs, None, MICROSOFT)[0]

    def _blocked(self, names: Sequence[str], storage: Storage) -> tuple[ir.Value, ir.Value]:
        """Codes and float32 scales for MatMulNBits, which are made when a session loads."""
        if self._parameters.has_half_scales(names):
            codes, scales = self._parameters.in_halves(names, storage)
            return codes, self._float(scales, 16)
        codes, factors, scales = self._parameters.blocked(names, storage)
        wide = self.node("Cast", [factors], {"to": int(FLOAT)})[0]
        return codes, self.node("Mul", [wide, scales])[0]

    def _unpacked(self, names: Sequence[str], storage: Storage) -> tuple[ir.Value, ir.Value]:
        """4-bit weights as `uint8_columns` gives 8-bit ones, by operators that are folded.

        ONNX Runtime keeps what each node makes until it has folded all weights of a graph, so they
        are as few as can be: a product with the identity scales each block and shifts it to 128.
        """
        codes, factors, scales, identity = self._parameters.int4_columns(names, storage)
        wide = self.node("Cast", [codes], {"to": int(ir.DataType.UINT8)})[0]
        by = self.node("Cast", [factors], {"to": int(FLOAT)})[0]
        one, middle = self._parameters.scalar(1.0), self._parameters.bytes(MIDDLE)
        zero, middle_of_4 = (self._parameters.bytes(n) for n in (0, MIDDLE_OF_4))
        inputs = [identity, one, zero, wide, by, middle_of_4, one, middle]
        wide = self.node("QLinearMatMul", inputs)[0]  # [blocks, block, rows]
        wide = self._reshape(wide, -1, self._parameters.rows(names))
        columns = self._parameters.columns(names[0])
        if self._parameters.pads(columns, storage):
            start, end = (self._parameters.integers(n) for n in (0, columns))
            wide = self.node("Slice", [wide, start, end])[0]
        return wide, scales

    def _float(self, x: ir.Value, bits: int) -> ir.Value:
        """16-bit weights are stored as such and computed with in float32."""
        if bits == 32:
            return x
        return self.node("Cast", [x], {"to": int(ir.DataType.FLOAT)})[0]

    def _reshape(self, x: ir.Value, *shape: int) -> ir.Value:
        return self.node("Reshape", [x, self._parameters.integers(*shape)])[0]

    def _rotary_tables(self, rope: Rope, text: Decoder) -> tuple[ir.Value, ir.Value]:
        if rope not in self._rotary:
            positions = min(text.context, STORED_POSITIONS)
            cos, sin = (
                self._parameters.constant(
                    f"rotary{len(self._rotary) or ''}.{kind}",
                    self.kept,
                    (positions, rope.dims // 2),
                    partial(_rotary_table, rope, positions, place),
                )
                for place, kind in enumerate(("cos", "sin"))
            )
            self._rotary[rope] = cos, sin
        return self._rotary[rope]


def _rotary_table(rope: Rope, positions: int, place: int) -> FloatArray:
    return rotary_tables(rope, positions)[place]
