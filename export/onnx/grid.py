"""Adds nodes that compute, from an image's size, the row and column of each of its patches.

Vision towers that take images of any size need them to rotate queries and keys, and to group
patches into attention windows. The nodes are added once and used by every layer.
"""

import onnx_ir as ir

from export.modeling.ops import PatchOrder
from export.modeling.rotary import frequencies, patch_rope
from export.onnx.nodes import MICROSOFT, Nodes
from export.onnx.parameters import Parameters

INT32, FLOAT = int(ir.DataType.INT32), int(ir.DataType.FLOAT)


class PatchGrid:
    """The positions and attention windows of the N patches of one image, as nodes of a graph.

    sizes: a graph input int64 [1, 3], the image's frames, rows and columns of patches. order: the
    patches of a square of merge_size x merge_size follow each other, and squares come row by row.
    A window at the edge of the image is padded to order.window x order.window patches; the padding
    repeats the first square and is masked (`mask`).
    """

    def __init__(
        self,
        nodes: Nodes,
        parameters: Parameters,
        sizes: ir.Value,
        order: PatchOrder,
    ) -> None:
        self._nodes = nodes
        self._parameters = parameters
        self._order_of = order
        _, rows, cols = nodes.many(
            "Split", [sizes, parameters.integers(1, 1, 1)], {"axis": 1}, outputs=3
        )
        self._rows, self._cols = (
            nodes.add("Div", [self._reshape(edge, 1), parameters.integers(order.merge_size)])
            for edge in (rows, cols)
        )  # of squares, int64 [1]
        self._squares = self._range(nodes.add("Mul", [self._rows, self._cols]))  # [squares]
        self._tables = self._made_tables()
        if order.window is not None:
            edge = order.window // order.merge_size
            self._slots, self._squares_of, self.mask = self._made_windows(edge)

    def rotated(self, x: ir.Value) -> ir.Value:
        """Rotates each head of queries or keys [1, N, H] by the row and column of its patch."""
        return self._nodes.add("RotaryEmbedding", [x, *self._tables], None, MICROSOFT)

    def windows(self, x: ir.Value) -> ir.Value:
        """Groups patches by window: [1, N, H] -> [windows, patches of a window, H]."""
        order = self._order_of
        squares = self._reshape(x, -1, order.merge_size**2 * order.width)
        ordered = self._nodes.add("Gather", [squares, self._squares_of], {"axis": 0})
        assert order.window is not None
        return self._reshape(ordered, -1, order.window**2, order.width)

    def image(self, x: ir.Value) -> ir.Value:
        """Undoes `windows`: returns the patches [1, N, H] in the image's order, without padding."""
        order = self._order_of
        squares = self._reshape(x, -1, order.merge_size**2 * order.width)
        ordered = self._nodes.add("Gather", [squares, self._slots], {"axis": 0})
        return self._reshape(ordered, 1, -1, order.width)

    def _made_tables(self) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Computes the inputs of RotaryEmbedding for all N patches.

        They are indices [1, N] into the tables, and cosines and sines [N, head size / 2].
        """
        add, integers = self._nodes.add, self._parameters.integers
        merge = self._order_of.merge_size
        inside = [divmod(n, merge) for n in range(merge**2)]
        indices = []
        for axis, of_square in enumerate(self._divided(self._squares, self._cols)):
            corner = add("Mul", [of_square, integers(merge)])
            corner = add("Unsqueeze", [corner, integers(1)])  # [squares, 1]
            offsets = integers(*(cell[axis] for cell in inside))
            indices.append(self._reshape(add("Add", [corner, offsets]), -1, 1))  # [N, 1]
        angles = [
            add("Mul", [add("Cast", [index], {"to": FLOAT}), self._frequencies()])
            for index in indices
        ]
        angle = add("Concat", angles, {"axis": -1})  # [N, head size / 2]
        count = add("Shape", [angle], {"start": 0, "end": 1})
        ids = add("Unsqueeze", [self._range(count), integers(0)])
        cos, sin = add("Cos", [angle]), add("Sin", [angle])
        compute = self._nodes.precision.compute
        if compute == ir.DataType.FLOAT:
            return ids, cos, sin
        to = {"to": int(compute)}
        return ids, add("Cast", [cos], to), add("Cast", [sin], to)

    def _frequencies(self) -> ir.Value:
        """Returns the angle by which one row (or column) rotates each pair: [head size / 4]."""
        angles = frequencies(patch_rope(self._order_of.width // self._order_of.heads))
        return self._parameters.constant(
            "patch_turns", ir.DataType.FLOAT, angles.shape, lambda: angles
        )

    def _made_windows(self, edge: int) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Assigns the squares of the image to windows of edge x edge slots.

        Returns the slot of each square [squares], the square in each slot [windows * edge^2], and a
        mask int32 [windows, patches of a window]: 1 for patches of the image, 0 for padding.
        """
        add, integers = self._nodes.add, self._parameters.integers
        across = self._windows_along(self._cols, edge)
        row, col = self._divided(self._squares, self._cols)
        (down, low), (right, left) = (self._divided(x, integers(edge)) for x in (row, col))
        window = add("Add", [add("Mul", [down, across]), right])
        within = add("Add", [add("Mul", [low, integers(edge)]), left])
        slots = add("Add", [add("Mul", [window, integers(edge**2)]), within])
        count = add("Mul", [self._windows_along(self._rows, edge), across])
        empty = add("Mul", [self._range(add("Mul", [count, integers(edge**2)])), integers(0)])
        order = add("ScatterElements", [empty, slots, self._squares], {"axis": 0})
        ones = add("Add", [add("Mul", [self._squares, integers(0)]), integers(1)])
        taken = add("ScatterElements", [empty, slots, ones], {"axis": 0})
        taken = add("Unsqueeze", [add("Cast", [taken], {"to": INT32}), integers(1)])
        patches = add("Expand", [taken, integers(1, self._order_of.merge_size**2)])
        return slots, order, self._reshape(patches, -1, edge**2 * self._order_of.merge_size**2)

    def _windows_along(self, squares: ir.Value, edge: int) -> ir.Value:
        """Computes how many windows cover `squares` squares in one direction: int64 [1]."""
        add, integers = self._nodes.add, self._parameters.integers
        return add("Div", [add("Add", [squares, integers(edge - 1)]), integers(edge)])

    def _divided(self, x: ir.Value, by: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Returns quotient and remainder of integers."""
        return self._nodes.add("Div", [x, by]), self._nodes.add("Mod", [x, by])

    def _range(self, count: ir.Value) -> ir.Value:
        """Returns the integers from 0 to `count` - 1; `count` is int64 [1]."""
        add, scalar = self._nodes.add, self._parameters.scalar
        return add("Range", [scalar(0), add("Squeeze", [count]), scalar(1)])

    def _reshape(self, x: ir.Value, *shape: int) -> ir.Value:
        return self._nodes.add("Reshape", [x, self._parameters.integers(*shape)])
