"""The places of an image's patches, derived in the graph from its numbers of rows and columns.

For towers that take images of any size: how queries and keys turn, and which patches share a
window. Plain integer nodes, made once and used by every layer. NOT aware of weights or layers.
"""

import onnx_ir as ir

from export.families.geometry import Tower
from export.onnx.nodes import MICROSOFT, Nodes
from export.onnx.parameters import Parameters
from export.rotary import frequencies, patch_rope

INT32, FLOAT = int(ir.DataType.INT32), int(ir.DataType.FLOAT)


class PatchGrid:
    """`sizes` int64 [1, 3] are frames, rows and columns; patches come by squares, row by row.

    A window is padded to `window` x `window` patches where it reaches beyond the image; the padding
    repeats the first square and is not seen.
    """

    def __init__(
        self,
        nodes: Nodes,
        parameters: Parameters,
        sizes: ir.Value,
        vision: Tower,
        kept: ir.DataType = ir.DataType.FLOAT,
    ) -> None:
        """`kept`: the type of queries and keys."""
        self._kept = kept
        self._nodes = nodes
        self._parameters = parameters
        self._vision = vision
        _, rows, cols = nodes.many(
            "Split", [sizes, parameters.integers(1, 1, 1)], {"axis": 1}, outputs=3
        )
        self._rows, self._cols = (
            nodes.add("Div", [self._reshape(edge, 1), parameters.integers(vision.square)])
            for edge in (rows, cols)
        )  # of squares, int64 [1]
        self._squares = self._range(nodes.add("Mul", [self._rows, self._cols]))  # [squares]
        self._tables = self._made_tables()
        if vision.window is not None:
            self._slots, self._order, self.seen = self._made_windows(vision.window // vision.square)

    def turned(self, x: ir.Value) -> ir.Value:
        """Queries or keys [1, N, H], each head turned by its patch's row and column."""
        return self._nodes.add("RotaryEmbedding", [x, *self._tables], None, MICROSOFT)

    def windows(self, x: ir.Value) -> ir.Value:
        """[1, N, H] to [windows, patches of a window, H]."""
        vision = self._vision
        squares = self._reshape(x, -1, vision.square**2 * vision.hidden)
        ordered = self._nodes.add("Gather", [squares, self._order], {"axis": 0})
        assert vision.window is not None
        return self._reshape(ordered, -1, vision.window**2, vision.hidden)

    def image(self, x: ir.Value) -> ir.Value:
        """The inverse of `windows`: back to [1, N, H]."""
        squares = self._reshape(x, -1, self._vision.square**2 * self._vision.hidden)
        ordered = self._nodes.add("Gather", [squares, self._slots], {"axis": 0})
        return self._reshape(ordered, 1, -1, self._vision.hidden)

    def _made_tables(self) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Position ids [1, N], and cosines and sines [N, head size / 2] to look them up in."""
        add, integers, square = self._nodes.add, self._parameters.integers, self._vision.square
        inside = [divmod(n, square) for n in range(square**2)]
        places = []
        for axis, of_square in enumerate(self._divided(self._squares, self._cols)):
            corner = add("Mul", [of_square, integers(square)])
            corner = add("Unsqueeze", [corner, integers(1)])  # [squares, 1]
            offsets = integers(*(place[axis] for place in inside))
            places.append(self._reshape(add("Add", [corner, offsets]), -1, 1))  # [N, 1]
        angles = [
            add("Mul", [add("Cast", [place], {"to": FLOAT}), self._turns()]) for place in places
        ]
        angle = add("Concat", angles, {"axis": -1})  # [N, head size / 2]
        count = add("Shape", [angle], {"start": 0, "end": 1})
        ids = add("Unsqueeze", [self._range(count), integers(0)])
        cos, sin = add("Cos", [angle]), add("Sin", [angle])
        if self._kept == ir.DataType.FLOAT:
            return ids, cos, sin
        to = {"to": int(self._kept)}
        return ids, add("Cast", [cos], to), add("Cast", [sin], to)

    def _turns(self) -> ir.Value:
        """Angle of one row or column for each pair of an axis: [head size / 4]."""
        rope = patch_rope(self._vision.hidden // self._vision.heads)
        turns = frequencies(rope)
        return self._parameters.constant(
            "patch_turns", ir.DataType.FLOAT, turns.shape, lambda: turns
        )

    def _made_windows(self, edge: int) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Windows of edge x edge squares: the slot of each square [squares], the square in each
        slot [windows * edge^2], and int32 [windows, patches of a window], 1 where a patch is."""
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
        patches = add("Expand", [taken, integers(1, self._vision.square**2)])
        return slots, order, self._reshape(patches, -1, edge**2 * self._vision.square**2)

    def _windows_along(self, squares: ir.Value, edge: int) -> ir.Value:
        """Windows that an edge of so many squares takes, rounded up: int64 [1]."""
        add, integers = self._nodes.add, self._parameters.integers
        return add("Div", [add("Add", [squares, integers(edge - 1)]), integers(edge)])

    def _divided(self, x: ir.Value, by: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Quotient and rest."""
        return self._nodes.add("Div", [x, by]), self._nodes.add("Mod", [x, by])

    def _range(self, count: ir.Value) -> ir.Value:
        """0, 1, … below `count` int64 [1]."""
        add, scalar = self._nodes.add, self._parameters.scalar
        return add("Range", [scalar(0), add("Squeeze", [count]), scalar(1)])

    def _reshape(self, x: ir.Value, *shape: int) -> ir.Value:
        return self._nodes.add("Reshape", [x, self._parameters.integers(*shape)])
