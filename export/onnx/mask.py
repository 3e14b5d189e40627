"""Which positions see which, as a bias of attention: for decoders whose images see ahead.

GroupQueryAttention's own causal mask cannot be lifted for some positions only, and its window
needs that mask, so the bias then has all three: causality, images and the window.
NOT aware of weights or layers.
"""

import numpy as np
import onnx_ir as ir

from export.onnx.nodes import INT64_MAX, Nodes
from export.onnx.parameters import Parameters


class Masks:
    """Biases [batch_size, 1, new, total], one for each window, made when they are first asked for.

    `images` [batch_size, total] int64 numbers the positions of images from 1, text is 0;
    `new` int64 [1] is how many of the last positions attend; or `places` int64 [new] says which of
    the positions do. `kept` is the type of a bias.
    """

    def __init__(
        self,
        nodes: Nodes,
        parameters: Parameters,
        images: ir.Value,
        new: ir.Value | None = None,
        places: ir.Value | None = None,
        kept: ir.DataType = ir.DataType.FLOAT,
    ) -> None:
        self._nodes = nodes
        self._parameters = parameters
        self._images = images
        self._new = new
        self._places = places
        self._kept = kept
        self._common: tuple[ir.Value, ir.Value, ir.Value] | None = None
        self._made: dict[int | None, ir.Value] = {}

    def bias(self, window: int | None) -> ir.Value:
        """0 where a position is seen, else the lowest float."""
        if window not in self._made:
            self._made[window] = self._bias(window)
        return self._made[window]

    def _bias(self, window: int | None) -> ir.Value:
        add, parameters = self._nodes.add, self._parameters
        self._common = self._common or self._without_window()
        seen, keys, queries = self._common
        if window is not None:
            reach = add("Add", [keys, parameters.integers(window)])
            seen = add("And", [seen, add("Greater", [reach, queries])])
        # Finite: minus infinity would make 0 * inf of a softmax.
        hidden = float(np.finfo(self._kept.numpy()).min)
        values = (parameters.floats(value, dtype=self._kept) for value in (0.0, hidden))
        bias = add("Where", [seen, *values])
        return add("Unsqueeze", [bias, parameters.integers(1)])

    def _without_window(self) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Who sees whom [batch_size, new, total]; positions of keys [total], queries [new, 1]."""
        add, integers = self._nodes.add, self._parameters.integers
        zero, one, two = (integers(n) for n in (0, 1, 2))
        total = add("Shape", [self._images], {"start": 1, "end": 2})
        scalar = self._parameters.scalar
        keys = add("Range", [scalar(0), add("Squeeze", [total]), scalar(1)])  # [total]
        queries = add("Unsqueeze", [self._of_queries(keys, 0), one])  # [new, 1]
        causal = add("GreaterOrEqual", [queries, keys])  # [new, total]
        mine = add("Unsqueeze", [self._of_queries(self._images, 1), two])
        theirs = add("Unsqueeze", [self._images, one])
        together = add("And", [self._same(mine, theirs), add("Greater", [mine, zero])])
        return add("Or", [causal, together]), keys, queries

    def _same(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """x = y; without Equal where a GPU compares: its kernel is of that op's earlier opset."""
        if self._places is None:
            return self._nodes.add("Equal", [x, y])
        pairs = (self._nodes.add("GreaterOrEqual", pair) for pair in ([x, y], [y, x]))
        return self._nodes.add("And", list(pairs))

    def _of_queries(self, x: ir.Value, axis: int) -> ir.Value:
        """What belongs to the new positions of the axis of all positions."""
        if self._places is not None:
            return self._nodes.add("Gather", [x, self._places], {"axis": axis})
        assert self._new is not None
        ends = (self._nodes.add("Neg", [self._new]), self._parameters.integers(INT64_MAX))
        return self._nodes.add("Slice", [x, *ends, self._parameters.integers(axis)])
