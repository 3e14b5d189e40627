"""Which positions see which, as a bias of attention: for decoders whose images see ahead.

GroupQueryAttention's own causal mask cannot be lifted for some positions only, and its window
needs that mask, so the bias then has all three: causality, images and the window.
NOT aware of weights or layers.
"""

import numpy as np
import onnx_ir as ir

from export.onnx.nodes import INT64_MAX, Nodes
from export.onnx.parameters import Parameters

HIDDEN = float(np.finfo(np.float32).min)  # finite: minus infinity would make 0 * inf of a softmax


class Masks:
    """Biases [batch_size, 1, new, total], one for each window, made when they are first asked for.

    `images` [batch_size, total] int64 numbers the positions of images from 1, text is 0;
    `new` int64 [1] is how many of the last positions attend.
    """

    def __init__(self, nodes: Nodes, parameters: Parameters, images: ir.Value, new: ir.Value):
        self._nodes = nodes
        self._parameters = parameters
        self._images = images
        self._new = new
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
        bias = add("Where", [seen, parameters.floats(0.0), parameters.floats(HIDDEN)])
        return add("Unsqueeze", [bias, parameters.integers(1)])

    def _without_window(self) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Who sees whom [batch_size, new, total]; positions of keys [total], queries [new, 1]."""
        add, integers = self._nodes.add, self._parameters.integers
        zero, one, two, end = (integers(n) for n in (0, 1, 2, INT64_MAX))
        first = add("Neg", [self._new])
        total = add("Shape", [self._images], {"start": 1, "end": 2})
        scalar = self._parameters.scalar
        keys = add("Range", [scalar(0), add("Squeeze", [total]), scalar(1)])  # [total]
        queries = add("Unsqueeze", [add("Slice", [keys, first, end, zero]), one])  # [new, 1]
        causal = add("GreaterOrEqual", [queries, keys])  # [new, total]
        mine = add("Unsqueeze", [add("Slice", [self._images, first, end, one]), two])
        theirs = add("Unsqueeze", [self._images, one])
        together = add("And", [add("Equal", [mine, theirs]), add("Greater", [mine, zero])])
        return add("Or", [causal, together]), keys, queries
