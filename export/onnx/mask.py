"""Adds attention biases for decoders in which all tokens of an image see each other.

GroupQueryAttention cannot lift its causal mask for some positions only, and its sliding window
needs that mask. So a bias expresses all three: causality, images and the window.
"""

import numpy as np
import onnx_ir as ir

from export.onnx.nodes import INT64_MAX, Nodes
from export.onnx.parameters import Parameters


class Masks:
    """Makes attention biases [B, 1, new, total] for a graph, one for each sliding window.

    images int64 [B, total]: the number of the image that a position belongs to, from 1; 0: text.
    The new positions, whose queries attend, are given by one of two inputs: new int64 [1], how many
    of the last positions they are; or indices int64 [new], which ones they are.
    """

    def __init__(
        self,
        nodes: Nodes,
        parameters: Parameters,
        images: ir.Value,
        new: ir.Value | None = None,
        indices: ir.Value | None = None,
    ) -> None:
        self._nodes = nodes
        self._parameters = parameters
        self._images = images
        self._new = new
        self._indices = indices
        self._common: tuple[ir.Value, ir.Value, ir.Value] | None = None
        self._made: dict[int | None, ir.Value] = {}

    def bias(self, window: int | None) -> ir.Value:
        """Returns the bias for a window of so many positions; None: for unlimited ones.

        It is 0 where a query sees a position, and the lowest finite float where it does not. It is
        made at the first call for each window.
        """
        if window not in self._made:
            self._made[window] = self._bias(window)
        return self._made[window]

    def _bias(self, window: int | None) -> ir.Value:
        add, parameters = self._nodes.add, self._parameters
        dtype = self._nodes.precision.compute
        self._common = self._common or self._without_window()
        seen, keys, queries = self._common
        if window is not None:
            reach = add("Add", [keys, parameters.integers(window)])
            seen = add("And", [seen, add("Greater", [reach, queries])])
        # Finite: minus infinity would make 0 * inf of a softmax.
        hidden = float(np.finfo(dtype.numpy()).min)
        values = (parameters.floats(value, dtype=dtype) for value in (0.0, hidden))
        bias = add("Where", [seen, *values])
        return add("Unsqueeze", [bias, parameters.integers(1)])

    def _without_window(self) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Computes which positions each query sees if there is no window: bool [B, new, total].

        Also returns the indices of the keys [total] and of the queries [new, 1].
        """
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
        """Compares int64 x = y; for GPUs by two nodes, as their Equal has an earlier opset."""
        if self._indices is None:
            return self._nodes.add("Equal", [x, y])
        pairs = (self._nodes.add("GreaterOrEqual", pair) for pair in ([x, y], [y, x]))
        return self._nodes.add("And", list(pairs))

    def _of_queries(self, x: ir.Value, axis: int) -> ir.Value:
        """Selects the new positions of `x` along `axis`, which has all positions."""
        if self._indices is not None:
            return self._nodes.add("Gather", [x, self._indices], {"axis": axis})
        assert self._new is not None
        ends = (self._nodes.add("Neg", [self._new]), self._parameters.integers(INT64_MAX))
        return self._nodes.add("Slice", [x, *ends, self._parameters.integers(axis)])
