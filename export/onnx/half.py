"""Ops as ONNX nodes for GPUs: matrix products, attention and its cache in float16, what is between
layers in float32.

The residual stream and norms stay wide because trained models leave float16's range there (Gemma 3
was trained in bfloat16), and because it costs two casts where a layer joins the stream. NOT aware
of layouts, files or families.
"""

from collections.abc import Sequence

import onnx_ir as ir

from export.families.geometry import Decoder, NormKind, Tower
from export.onnx.emit import Emit
from export.onnx.nodes import MICROSOFT, Attributes, Nodes
from export.onnx.parameters import Parameters

HALF, FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT
TYPED = frozenset({"Cast", "Shape", "ArgMax"})
"""Ops whose output has a type of its own."""


class HalfNodes(Nodes):
    """Nodes that tell which of their outputs are float16: those of an op that reads any."""

    def many(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Attributes | None = None,
        domain: str = "",
        outputs: int = 1,
    ) -> tuple[ir.Value, ...]:
        """Append a node and return its outputs."""
        made = super().many(op, inputs, attributes, domain, outputs)
        if op not in TYPED and any(x is not None and x.dtype == HALF for x in inputs):
            for output in made:
                output.type = ir.TensorType(HALF)
        return made


class HalfEmit(Emit):
    """Weights of 32 bits are multiplied in float32, all others in float16."""

    accuracy_level = 0  # as wide as the input
    kept = HALF

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.nodes = HalfNodes()
        self._cast: dict[ir.Value, ir.Value] = {}
        self._turns: tuple[ir.Value, ...] | None = None

    def wide(self, x: ir.Value) -> ir.Value:
        return self._as(FLOAT, x) if x.dtype == HALF else x

    def _narrow(self, x: ir.Value) -> ir.Value:
        return x if x.dtype == HALF else self._as(HALF, x)

    def _as(self, dtype: ir.DataType, x: ir.Value) -> ir.Value:
        if x not in self._cast:
            self._cast[x] = self.node("Cast", [x], {"to": int(dtype)})[0]
            self._cast[x].type = ir.TensorType(dtype)
        return self._cast[x]

    def linear(self, x: ir.Value, *names: str, bias: bool = False) -> ir.Value:
        if len({self._parameters.storage(name) for name in names}) > 1:
            parts = [self._narrow(self.linear(x, name, bias=bias)) for name in names]
            return self.node("Concat", parts, {"axis": -1})[0]
        given = self.wide(x) if self._exact(names) else self._narrow(x)
        return super().linear(given, *names, bias=bias)

    def norm(self, x: ir.Value, name: str, kind: NormKind, eps: float) -> ir.Value:
        return super().norm(self.wide(x), name, kind, eps)

    def add_norm(
        self, x: ir.Value, residual: ir.Value, name: str, kind: NormKind, eps: float
    ) -> tuple[ir.Value, ir.Value]:
        return super().add_norm(self.wide(x), self.wide(residual), name, kind, eps)

    def add(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return super().add(self.wide(x), self.wide(y))

    def add_parameter(self, x: ir.Value, name: str) -> ir.Value:
        return super().add_parameter(self.wide(x), name)

    def patch_attention(
        self, q: ir.Value, k: ir.Value, v: ir.Value, vision: Tower, layer: int
    ) -> ir.Value:
        query, key, value = (self._narrow(part) for part in (q, k, v))
        return super().patch_attention(query, key, value, vision, layer)

    def cached_attention(
        self, qkv: ir.Value, layer: int, text: Decoder, norms: tuple[str, str] | None = None
    ) -> ir.Value:
        return super().cached_attention(self._narrow(qkv), layer, text, norms)

    def _normed_heads(
        self, qkv: ir.Value, text: Decoder, norms: tuple[str, str]
    ) -> list[ir.Value | None]:
        return [x and self._narrow(x) for x in super()._normed_heads(qkv, text, norms)]

    def _turned_heads(
        self,
        qkv: ir.Value,
        text: Decoder,
        sections: tuple[int, int, int],
        tables: Sequence[ir.Value | None],
    ) -> list[ir.Value | None]:
        """As of Emit, by RotaryEmbedding over a table made of the positions' own rows."""
        query, key, value = self._heads(qkv, text)
        self._turns = self._turns or self._own_rows(sections, tables)
        turned = (
            self.node("RotaryEmbedding", [part, *self._turns], None, MICROSOFT)[0]
            for part in (query, key)
        )
        return [*turned, value]

    def _own_rows(
        self, sections: tuple[int, int, int], tables: Sequence[ir.Value | None]
    ) -> tuple[ir.Value, ...]:
        """Places [1, S] in tables, and cosines and sines [S, pairs]: each section of the pairs
        from the row of its axis' position. Of one batch."""
        add, integers, scalar = (
            self.nodes.add, self._parameters.integers, self._parameters.scalar
        )  # fmt: skip
        where = self.nodes.many(
            "Split", [self.inputs["position_ids"]], {"axis": 0, "num_outputs": 3}, outputs=3
        )
        axes = [add("Reshape", [axis, integers(-1)]) for axis in where]
        made = []
        for table in tables:
            rows, start = [], 0
            for axis, count in zip(axes, sections, strict=True):
                ends = (integers(start), integers(start + count), integers(1))
                rows.append(add("Gather", [add("Slice", [table, *ends]), axis]))
                start += count
            made.append(add("Concat", rows, {"axis": -1}))
        new = add("Squeeze", [add("Shape", [axes[0]])])
        places = add("Range", [scalar(0), new, scalar(1)])
        return add("Unsqueeze", [places, integers(0)]), *made

    def _rows(self, ids: ir.Value, name: str) -> ir.Value:
        return self.wide(super()._rows(ids, name))

    def _float(self, x: ir.Value, bits: int) -> ir.Value:
        return x

    def _offset(self, names: Sequence[str]) -> ir.Value:
        return self._parameters.vector(
            *(f"{name}.bias" for name in names), bits=32 if self._exact(names) else 16
        )

    def _exact(self, names: Sequence[str]) -> bool:
        return self._parameters.storage(names[0]).bits == 32
