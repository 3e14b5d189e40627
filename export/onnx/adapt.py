"""Adds nodes that convert a client's inputs to the network's, and the network's outputs back."""

import onnx_ir as ir

from export.onnx.nodes import Nodes
from export.onnx.parameters import Parameters

INT64 = int(ir.DataType.INT64)


class Adapter:
    """Adds converting nodes to one ONNX graph; each method returns the converted tensor.

    A client is a program that runs the graphs, such as transformers.js. `nodes`: the graph's nodes,
    to which it appends. `parameters`: the graph's initializers.
    """

    def __init__(self, nodes: Nodes, parameters: Parameters) -> None:
        self._add = nodes.add
        self._many = nodes.many
        self._parameters = parameters
        self._integers = parameters.integers

    def real_tiles(self, pixels: ir.Value, mask: ir.Value, shape: tuple[int, ...]) -> ir.Value:
        """Drops the padding tiles of `pixels` [B, T, C, h, w]: returns n real ones [n, C, h, w].

        `mask` bool [B, T, h, w] is true for real pixels. Real tiles are padded only below and to
        the right, so the mask of a tile's first pixel decides. `shape`: (C, h, w).
        """
        zero, one, axes = (self._integers(*values) for values in ((0, 0), (1, 1), (2, 3)))
        first = self._add("Slice", [mask, zero, one, axes])
        tiles = self._add("Reshape", [pixels, self._integers(-1, *shape)])
        there = self._add("Reshape", [first, self._integers(-1)])
        return self._add("Compress", [tiles, there], {"axis": 0})

    def rows(self, x: ir.Value, width: int) -> ir.Value:
        """Reshapes [..., width] to [rows, width]."""
        return self._add("Reshape", [x, self._integers(-1, width)])

    def marked(self, x: ir.Value, mark: float) -> ir.Value:
        """Appends a column filled with `mark`: [..., n] -> [..., n + 1]."""
        inputs = [x, self._integers(0, 1), self._parameters.scalar(mark), self._integers(-1)]
        return self._add("Pad", inputs)

    def unmarked(self, x: ir.Value, hidden: int) -> tuple[ir.Value, ir.Value]:
        """Undoes `marked`: splits `x` into embeddings [B, S, hidden] and marks [B, S, 1]."""
        embeds, marks = self._many("Split", [x, self._integers(hidden, 1)], {"axis": -1}, outputs=2)
        return embeds, marks

    def image_numbers(self, marks: ir.Value, mask: ir.Value) -> ir.Value:
        """Numbers each position by its image: int64 [B, total], 0 for text.

        `marks` [B, S, 1] are 1 where a new position is an image token; `mask` [B, total] only gives
        the total length. Cached positions get 0, because their queries are done. Adjacent image
        tokens get the same number: 1 + the number of new text positions before them.
        """
        one = self._integers(1)
        new = self._add("Cast", [self._add("Squeeze", [marks, self._integers(-1)])], {"to": INT64})
        text = self._add("Sub", [one, new])
        before = self._add("CumSum", [text, self._parameters.scalar(1)])
        numbers = self._add("Mul", [self._add("Add", [before, one]), new])
        lengths = [self._add("Shape", [x], {"start": 1, "end": 2}) for x in (mask, new)]
        pads = self._add("Concat", [self._add("Sub", lengths), self._integers(0)], {"axis": 0})
        return self._add("Pad", [numbers, pads, None, one])

    def placed(
        self, embeds: ir.Value, ids: ir.Value, features: ir.Value, image_token_id: int, width: int
    ) -> ir.Value:
        """Replaces the embeddings of image tokens by image features: [B, S, width].

        `embeds` [B, S, width] belong to `ids` [B, S]. The rows of `features` [..., width] replace
        image tokens in order. Image tokens beyond the features are part of an answer and keep their
        embedding.
        """
        zero = self._integers(0)
        is_image = self._add("Equal", [ids, self._integers(image_token_id)])
        indices = self._add("Transpose", [self._add("NonZero", [is_image])], {"perm": [1, 0]})
        rows = self.rows(features, width)
        count = self._add("Shape", [rows], {"start": 0, "end": 1})
        indices = self._add("Slice", [indices, zero, count, zero])
        return self._add("ScatterND", [embeds, indices, rows])
