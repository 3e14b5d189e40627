"""Adds a decoder's attention to an ONNX graph, with its key-value cache, masks and rotations."""

from collections.abc import Sequence
from functools import partial

import onnx_ir as ir

from export.arrays import FloatArray
from export.modeling.ops import Heads
from export.modeling.rotary import STORED_POSITIONS, Rope, rotary_tables
from export.onnx.mask import Masks
from export.onnx.nodes import INT64_MAX, MICROSOFT, Nodes
from export.onnx.parameters import Parameters

Tables = tuple[ir.Value, ir.Value]
"""Cosines and sines [positions, pairs]."""
Parts = tuple[ir.Value, ir.Value | None, ir.Value | None]
"""Query, key and value; or all three side by side in the first one, then None and None."""

ROTATED_INSIDE = 16
"""GroupQueryAttention rotates heads itself only if this divides their size and the rotated part."""


class CachedAttention:
    """Adds the attention of a decoder's layers to a graph, as GroupQueryAttention nodes.

    The graph takes cached keys and values (`past`, a pair for each layer) and returns them with the
    new positions (`presents`, filled layer by layer). lengths: GroupQueryAttention's inputs, int32
    seqlens_k (last valid index of each sequence) and total_sequence_length. keep: int64 input, for
    how many of the last positions logits are computed (0: all); None: for the last one only.
    masks: biases where attention is not causal; None: causal. position_ids int64 [3, B, S]: times,
    rows and columns, for decoders with three-axis rotary positions. own_rows: for these decoders,
    rotate by RotaryEmbedding, because GPUs have no MRotaryEmbedding.
    """

    def __init__(  # noqa: PLR0913 (a graph's inputs, by name)
        self,
        nodes: Nodes,
        parameters: Parameters,
        *,
        context: int,
        past: Sequence[tuple[ir.Value, ir.Value]],
        lengths: tuple[ir.Value, ir.Value],
        keep: ir.Value | None = None,
        masks: Masks | None = None,
        position_ids: ir.Value | None = None,
        own_rows: bool = False,
    ) -> None:
        self._nodes = nodes
        self._parameters = parameters
        self._context = context
        self._past = past
        self._lengths = lengths
        self._keep = keep
        self._masks = masks
        self._position_ids = position_ids
        self._own_rows = own_rows
        self._tables: dict[Rope, Tables] = {}
        self._own: tuple[ir.Value, ...] | None = None
        self._indices: ir.Value | None = None
        self.presents: list[ir.Value] = []

    def tables(self, rope: Rope) -> Tables:
        """Returns the cosines and sines for the rotary positions `rope`, made at the first call."""
        if rope not in self._tables:
            positions = min(self._context, STORED_POSITIONS)
            cos, sin = (
                self._parameters.constant(
                    f"rotary{len(self._tables) or ''}.{kind}",
                    self._nodes.precision.compute,
                    (positions, rope.dims // 2),
                    partial(_table, rope, positions, index),
                )
                for index, kind in enumerate(("cos", "sin"))
            )
            self._tables[rope] = cos, sin
        return self._tables[rope]

    def split(self, qkv: ir.Value, heads: Heads) -> tuple[ir.Value, ...]:
        """Splits `qkv` into query, key and value, each [B, S, its heads * head_dim]."""
        counts = (heads.heads, heads.kv_heads, heads.kv_heads)
        sizes = self._parameters.integers(*(count * heads.head_dim for count in counts))
        return self._nodes.many("Split", [qkv, sizes], {"axis": -1}, outputs=3)

    def attended(self, parts: Parts, layer: int, heads: Heads, tables: Tables) -> ir.Value:
        """Adds the attention of one layer and returns its result [B, S, heads * head_dim].

        The layer's keys and values, old and new, are appended to `presents`.
        """
        rotation: Sequence[ir.Value | None] = tables
        whole = heads.head_dim % ROTATED_INSIDE == heads.rope.dims % ROTATED_INSIDE == 0
        inside = heads.sections is None and whole
        if not inside:
            parts, rotation = self._rotated(parts, heads, tables), (None, None)
        inputs = [*parts, *self._past[layer], *self._lengths, *rotation]
        attributes: dict[str, int | float] = {
            "num_heads": heads.heads,
            "kv_num_heads": heads.kv_heads,
            "do_rotary": int(inside),
        }
        if heads.scale is not None:
            attributes["scale"] = heads.scale
        if self._masks is not None:
            inputs += [None, self._masks.bias(heads.window)]
            attributes["causal"] = 0  # the bias has it
        elif heads.window is not None:
            attributes["local_window_size"] = heads.window
        attended, *present = self._nodes.many(
            "GroupQueryAttention", inputs, attributes, MICROSOFT, 3
        )
        self.presents += present
        return attended

    def last_tokens(self, x: ir.Value) -> ir.Value:
        """Selects the positions of `x` [B, S, …] whose logits are wanted: the last `keep` ones.

        With keep 0, the slice starts at -0, the front, and so has all positions.
        """
        integers = self._parameters.integers
        if self._keep is None:
            start = integers(-1)
        else:
            start = self._nodes.add("Reshape", [self._keep, integers(1)])
            start = self._nodes.add("Neg", [start])
        return self._nodes.add("Slice", [x, start, integers(INT64_MAX), integers(1)])

    def _rotated(self, parts: Parts, heads: Heads, tables: Tables) -> Parts:
        """Rotates queries and keys ahead of the attention; returns them with the values."""
        qkv, key, value = parts
        query: ir.Value = qkv
        if key is None or value is None:
            query, key, value = self.split(qkv, heads)
        query = self._rotated_part(query, heads.heads, heads, tables)
        return query, self._rotated_part(key, heads.kv_heads, heads, tables), value

    def _rotated_part(self, part: ir.Value, count: int, heads: Heads, tables: Tables) -> ir.Value:
        """Rotates `count` heads [B, S, count * head_dim] by index, or by time, row and column."""
        if heads.sections is None:
            return self._by_index(part, count, heads.rope.dims, tables)
        if not self._own_rows:
            return self._by_axes(part, count, heads.head_dim, heads.sections, tables)
        self._own = self._own or self._rows_of_positions(heads.sections, tables)
        return self._nodes.add("RotaryEmbedding", [part, *self._own], None, MICROSOFT)

    def _by_index(self, part: ir.Value, heads: int, dims: int, tables: Tables) -> ir.Value:
        attributes = {"num_heads": heads, "rotary_embedding_dim": dims}
        self._indices = self._indices or self._new_indices(part)
        inputs = [part, self._indices, *tables]
        return self._nodes.add("RotaryEmbedding", inputs, attributes, MICROSOFT)

    def _new_indices(self, part: ir.Value) -> ir.Value:
        """Returns the indices int64 [B, S] of the new positions `part` [B, S, …] in the prompt.

        They are those that GroupQueryAttention rotates by: the last is the last valid one, but a
        prompt that is shorter than the others of its batch, and so padded behind, begins at 0.
        """
        add, scalar = self._nodes.add, self._parameters.scalar
        new = add("Squeeze", [add("Shape", [part], {"start": 1, "end": 2})])
        last = add("Cast", [self._lengths[0]], {"to": int(ir.DataType.INT64)})
        before = add("Add", [last, add("Add", [add("Mul", [new, scalar(-1)]), scalar(1)])])
        start = add("Where", [add("Greater", [before, scalar(0)]), before, scalar(0)])
        indices = add("Range", [scalar(0), new, scalar(1)])
        return add("Add", [add("Unsqueeze", [start, self._parameters.integers(1)]), indices])

    def _by_axes(
        self,
        part: ir.Value,
        heads: int,
        head_dim: int,
        sections: tuple[int, int, int],
        tables: Tables,
    ) -> ir.Value:
        attributes: dict[str, int | tuple[int, ...]] = {
            "mrope_section": sections,
            "num_heads": heads,
            "rotary_embedding_dim": head_dim,
        }
        inputs = [part, self._position_ids, *tables]
        return self._nodes.add("MRotaryEmbedding", inputs, attributes, MICROSOFT)

    def _rows_of_positions(
        self, sections: tuple[int, int, int], tables: Tables
    ) -> tuple[ir.Value, ...]:
        """Makes RotaryEmbedding's inputs: indices [1, S], cosines and sines [S, pairs].

        They have a row for each new position of one sequence. The pairs of each section are taken
        from the row of `tables` that belongs to the position's time, row or column.
        """
        add, many = self._nodes.add, self._nodes.many
        integers, scalar = self._parameters.integers, self._parameters.scalar
        split = {"axis": 0, "num_outputs": 3}
        axes = [
            add("Reshape", [axis, integers(-1)])
            for axis in many("Split", [self._position_ids], split, outputs=3)
        ]
        made = []
        for table in tables:
            rows, start = [], 0
            for axis, count in zip(axes, sections, strict=True):
                ends = (integers(start), integers(start + count), integers(1))
                rows.append(add("Gather", [add("Slice", [table, *ends]), axis]))
                start += count
            made.append(add("Concat", rows, {"axis": -1}))
        new = add("Squeeze", [add("Shape", [axes[0]])])
        indices = add("Range", [scalar(0), new, scalar(1)])
        return add("Unsqueeze", [indices, integers(0)]), *made


def _table(rope: Rope, positions: int, index: int) -> FloatArray:
    return rotary_tables(rope, positions)[index]
