"""Turns weights into initializers of an ONNX graph: reads, rounds and writes them one by one.

The types and shapes of initializers follow from the weights' shapes and the recipe alone. Values
are read only if the data file is really written.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.ahead import ahead
from export.arrays import FloatArray
from export.modeling.tensors import Shape
from export.modeling.vlm import component
from export.onnx.data import DataFile, Groups, Packed
from export.onnx.ledger import Ledger
from export.quantize import blocks, finite
from export.quantize.blocks import Codes
from export.quantize.recipe import Recipe, Storage
from export.quantize.rounding import Rounding
from export.weights import Weights

ROW_VALUES = 1 << 20
"""Values in a group that is read and packed at once: so few that copies fit a processor's cache."""
COLUMN_VALUES = 1 << 21
"""The same for transposed matrices; more, because each group is written to many offsets."""
FLOATS = {32: (np.float32, ir.DataType.FLOAT), 16: (np.float16, ir.DataType.FLOAT16)}


class Parameters:
    """Makes the initializers of one graph; the same weight asked for twice is made once.

    A `name` is a canonical tensor name without ".weight". Several names stand for one matrix of
    their rows, one weight below the other. `values` has the initializers by name.
    """

    def __init__(
        self,
        weights: Weights,
        recipe: Recipe,
        data: DataFile,
        ledger: Ledger,
        rounding: Rounding = Rounding(),  # noqa: B008  (frozen)
        half: bool = False,
        folded: bool = False,
    ) -> None:
        """`half`: quantized matrices have float16 scales, as graphs in half precision need.
        `folded`: `blocked` weights have the scales that its caller would compute from factors."""
        self._weights = weights
        self._rounding = rounding
        self._shapes = weights.shapes()
        self._recipe = recipe
        self._data = data
        self._ledger = ledger
        self._half = half
        self.folded = folded
        self._identities: dict[int, ir.Value] = {}
        self.values: dict[str, ir.Value] = {}

    def storage(self, name: str) -> Storage:
        """Returns how the recipe stores `{name}.weight`."""
        return self._recipe.storage(f"{name}.weight", self._shapes[f"{name}.weight"])

    def rows(self, names: Sequence[str]) -> int:
        """Returns the number of rows (outputs) of all these weights together."""
        return sum(self._shapes[f"{name}.weight"][0] for name in names)

    def columns(self, name: str) -> int:
        """Returns the number of columns (inputs) of a weight; kernel axes are flattened."""
        return prod(self._shapes[f"{name}.weight"][1:])

    def constant(
        self, name: str, dtype: ir.DataType, shape: Shape, values: Callable[[], NDArray[Any]]
    ) -> ir.Value:
        """Returns an initializer in the data file; the same name gives the same initializer.

        `values` is called only if the values are written.
        """
        packed = Packed(name, dtype, shape)
        return self._put([packed], lambda: [[values().astype(dtype.numpy())]])[0]

    def integers(self, *values: int) -> ir.Value:
        """Returns an int64 vector stored inside the graph, where shape inference can read it."""
        return self._small(np.array(values, np.int64))

    def floats(self, *values: float, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
        """Returns a small vector of floats that is stored inside the graph."""
        return self._small(np.array(values, dtype.numpy()))

    def scalar(self, value: int | float) -> ir.Value:
        """Returns a scalar stored inside the graph: int64 for an int, float32 for a float."""
        kind = np.int64 if isinstance(value, int) else np.float32
        return self._small(np.array(value, kind), "scalar.")

    def bytes(self, *values: int) -> ir.Value:
        """Returns a uint8 scalar, or a vector of several values, stored inside the graph."""
        return self._small(np.array(values if len(values) > 1 else values[0], np.uint8))

    def _small(self, values: NDArray[Any], kind: str = "") -> ir.Value:
        name = f"{kind}{values.dtype}." + ".".join(map(str, values.ravel().tolist()))
        if name not in self.values:
            tensor = ir.tensor(values, name=name)
            self.values[name] = ir.Value(
                name=name,
                shape=ir.Shape(values.shape),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
        return self.values[name]

    def vector(self, *names: str, bits: int = 32) -> ir.Value:
        """Concatenates tensors along their first axis, as floats of 32 or 16 bits.

        `names` are full canonical names, with ".weight" or ".bias".
        """
        numpy_type, dtype = FLOATS[bits]
        shapes = [self._shapes[name] for name in names]
        for name, shape in zip(names, shapes, strict=True):
            size = prod(shape)
            kind = str(np.dtype(numpy_type))
            self._ledger.add(name, size, bits // 8 * size, kind, quantized=False)
        joined = (sum(shape[0] for shape in shapes), *shapes[0][1:])

        def values() -> list[list[NDArray[Any]]]:
            parts = [
                finite.packed(
                    name, self._weights.read(name), lambda read: [read.astype(numpy_type)]
                )
                for name in names
            ]
            return [[np.concatenate([part for (part,) in parts])]]

        return self._put([Packed("+".join(names), dtype, joined)], values)[0]

    def has_rows(self, names: Sequence[str], bits: int) -> bool:
        """Whether an earlier graph has written these weights as floats without transposing them."""
        return self._data.has(self._dense(names, bits, transposed=False))

    def _dense(self, names: Sequence[str], bits: int, transposed: bool) -> Packed:
        shape = (self.rows(names), self.columns(names[0]))
        stored = shape[::-1] if transposed else shape
        return Packed(_key(names, "weight"), FLOATS[bits][1], stored, transposed)

    def dense(self, names: Sequence[str], bits: int, transposed: bool) -> ir.Value:
        """Returns the weights as one matrix of 32-bit or 16-bit floats.

        It is [rows, columns], or [columns, rows] if `transposed`.
        """
        numpy_type, _ = FLOATS[bits]
        packed = self._dense(names, bits, transposed)
        self._account(names, [packed], str(np.dtype(numpy_type)))

        def pack(_: str, rows: FloatArray) -> list[NDArray[Any]]:
            values = rows.astype(numpy_type)
            return [values.T if transposed else values]

        return self._put([packed], lambda: self._groups(names, pack, transposed))[0]

    def has_half_scales(self, names: Sequence[str]) -> bool:
        """Whether the quantized weights are stored with float16 scales (`in_halves`).

        True for an embedding, even as a tied output head, and for graphs in half precision.
        """
        return self._half or component(f"{names[0]}.weight") == "embedding"

    def in_halves(
        self, names: Sequence[str], storage: Storage, flat: bool = False
    ) -> tuple[ir.Value, ir.Value]:
        """Returns quantized weights as uint8 codes and float16 scales [rows, blocks].

        The codes are [rows, blocks, bytes of a block] for MatMulNBits; with `flat` they are
        [rows, bytes of a row] for GatherBlockQuantized.
        """
        rows, blocks_a_row = self.rows(names), self._blocks_a_row(names, storage)
        codes = self._codes(names, storage)
        if flat:
            codes = replace(codes, shape=(rows, codes.nbytes // rows))
        scales = Packed(_key(names, "scales"), ir.DataType.FLOAT16, (rows, blocks_a_row))

        def pack(name: str, rows: FloatArray) -> list[NDArray[Any]]:
            return self._in_halves(name, rows, storage)

        self._account(names, [codes, scales], f"int{storage.bits} in blocks of {storage.block}")
        found = self._put([codes, scales], lambda: self._groups(names, pack))
        return found[0], found[1]

    def in_floats(self, names: Sequence[str], storage: Storage) -> tuple[ir.Value, ir.Value]:
        """Returns quantized weights as uint8 codes and float32 scales [rows, blocks].

        The codes and the values of the scales are those of `in_halves`, if the weights
        `has_half_scales`, otherwise of `blocked`.
        """
        shape = self.rows(names), self._blocks_a_row(names, storage)
        packed = [
            self._codes(names, storage),
            Packed(_key(names, "scales"), ir.DataType.FLOAT, shape),
        ]
        halves = self.has_half_scales(names)

        def pack(name: str, rows: FloatArray) -> list[NDArray[Any]]:
            if halves:
                codes, scales = self._in_halves(name, rows, storage)
                return [codes, scales.astype(np.float32)]
            codes, factors, scales = self._in_factors(name, rows, storage)
            return [codes, factors.astype(np.float32) * scales]

        self._account(names, packed, f"int{storage.bits} in blocks of {storage.block}")
        codes, scales = self._put(packed, lambda: self._groups(names, pack))
        return codes, scales

    def blocked(
        self, names: Sequence[str], storage: Storage
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Returns quantized weights for MatMulNBits: codes, factors and scales.

        They are uint8 codes [rows, blocks, bytes of a block], int8 factors [rows, blocks] and
        float32 scales [rows, 1]; a block's scale is its factor times its row's scale.
        """
        rows, blocks_a_row = self.rows(names), self._blocks_a_row(names, storage)
        packed = [
            self._codes(names, storage),
            Packed(_key(names, "factors"), ir.DataType.INT8, (rows, blocks_a_row)),
            Packed(_key(names, "scales"), ir.DataType.FLOAT, (rows, 1)),
        ]

        def pack(name: str, rows: FloatArray) -> list[NDArray[Any]]:
            return self._in_factors(name, rows, storage)

        self._account(names, packed, f"int{storage.bits} in blocks of {storage.block}")
        codes, factors, scales = self._put(packed, lambda: self._groups(names, pack))
        return codes, factors, scales

    def _in_halves(self, name: str, rows: FloatArray, storage: Storage) -> list[NDArray[Any]]:
        """Rounds some rows of a weight; returns codes and float16 scales."""
        if storage.bits == 8:
            codes, scales = blocks.eight_bits(rows, storage.block)
            return [codes, scales.astype(np.float16)]
        codes, scales = self._rounding.four_bits(name, rows, storage)
        return [blocks.pairs(codes), scales.astype(np.float16)]

    def _in_factors(self, name: str, rows: FloatArray, storage: Storage) -> list[NDArray[Any]]:
        """Rounds some rows of a weight; returns codes, int8 factors and the rows' scales."""
        if storage.bits == 8:
            return list(blocks.eight_bit_factors(rows, storage.block))
        codes, scales = self._rounding.four_bits(name, rows, storage)
        return [blocks.pairs(codes), *blocks.row_factors(scales)]

    def _codes(self, names: Sequence[str], storage: Storage) -> Packed:
        shape = self.rows(names), self._blocks_a_row(names, storage)
        width = storage.block * storage.bits // 8
        return Packed(_key(names, "codes"), ir.DataType.UINT8, (*shape, width))

    def _blocks_a_row(self, names: Sequence[str], storage: Storage) -> int:
        return -(-self.columns(names[0]) // storage.block)

    def int4_columns(
        self, names: Sequence[str], storage: Storage
    ) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
        """Returns transposed 4-bit weights, to be unpacked to int8 when a session loads.

        They are uint4 codes [blocks, block, rows] with 8 for 0, int8 factors [blocks, 1, rows],
        float32 scales [rows] and the uint8 identity matrix [block, block] (blocks.four_bit_rows).
        A block is up to a quarter shorter than `storage.block` if it then divides the columns;
        otherwise the last one is padded. The number of rows must be even.
        """

        def pack(codes: Codes, factors: NDArray[np.int8]) -> list[NDArray[Any]]:
            return [blocks.pairs(codes.reshape(len(codes), -1).T), factors.T]

        block = _dividing(self.columns(names[0]), storage.block)
        types = ir.DataType.UINT4, ir.DataType.INT8
        codes, factors, scales = self._by_columns(names, storage, types, block, pack)
        if block not in self._identities:  # named after the weight: no other graph refers to it
            name, shape = _key(names, "identity"), (block, block)
            identity = self.constant(name, ir.DataType.UINT8, shape, lambda: np.eye(block))
            self._identities[block] = identity
        return codes, factors, scales, self._identities[block]

    def int4_halves(
        self, names: Sequence[str], storage: Storage
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Returns the weights of int4_columns in bytes: uint8 codes [blocks, block / 2, rows].

        The low four bits are those of the first half of a block, the high ones of the second.
        Factors are uint8 [blocks, 1, rows] with 128 for 0, scales as there.
        """

        def pack(codes: Codes, factors: NDArray[np.int8]) -> list[NDArray[Any]]:
            first, second = np.split(codes, 2, axis=-1)
            joined = (first | second << np.uint8(4)).reshape(len(codes), -1)
            return [joined.T, factors.view(np.uint8).T ^ np.uint8(128)]

        half = _dividing(self.columns(names[0]), storage.block) // 2
        types = ir.DataType.UINT8, ir.DataType.UINT8
        codes, factors, scales = self._by_columns(names, storage, types, half, pack)
        return codes, factors, scales

    def _by_columns(
        self,
        names: Sequence[str],
        storage: Storage,
        types: tuple[ir.DataType, ir.DataType],
        height: int,
        pack: Callable[[Codes, NDArray[np.int8]], list[NDArray[Any]]],
    ) -> list[ir.Value]:
        """Returns codes [blocks, height, rows], factors [blocks, 1, rows] and scales [rows].

        `pack` gets codes 0…15 [rows, blocks, block] and factors [rows, blocks] of some rows, and
        returns what is written of both.
        """
        rows, columns = self.rows(names), self.columns(names[0])
        storage = replace(storage, block=_dividing(columns, storage.block))
        count = self._blocks_a_row(names, storage)
        packed = [
            Packed(_key(names, "codes"), types[0], (count, height, rows), True),
            Packed(_key(names, "factors"), types[1], (count, 1, rows), True),
            Packed(_key(names, "scales"), ir.DataType.FLOAT, (rows,)),
        ]
        self._account(names, packed, f"int4 in blocks of {storage.block}, by rows")

        def values(name: str, rows: FloatArray) -> list[NDArray[Any]]:
            codes, factors, scales = self._rounding.four_bit_rows(name, rows, storage)
            return [*pack(codes.view(np.uint8) + np.uint8(8), factors), scales]

        return self._put(packed, lambda: self._groups(names, values, True))

    def pads(self, columns: int, storage: Storage) -> bool:
        """Whether `int4_columns` pads a weight that has this number of columns."""
        return columns % _dividing(columns, storage.block) > 0

    def uint8_columns(self, names: Sequence[str], storage: Storage) -> tuple[ir.Value, ir.Value]:
        """Returns one transposed 8-bit matrix of all `names` for DynamicQuantizeMatMul.

        The rows of the weights follow each other. uint8 codes [columns, rows], with 128 for 0, and
        float32 scales [rows]. `storage` is what the recipe asked, for the report of fallbacks.
        """
        rows, columns = self.rows(names), self.columns(names[0])
        packed = [
            Packed(_key(names, "codes"), ir.DataType.UINT8, (columns, rows), by_columns=True),
            Packed(_key(names, "scales"), ir.DataType.FLOAT, (rows,)),
        ]
        self._account(names, packed, "int8 by rows")
        if storage.bits != 8:
            self._ledger.fell_back(names, f"int{storage.bits}", "int8", "an odd number of outputs")

        def pack(_: str, rows: FloatArray) -> list[NDArray[Any]]:
            codes, scales = blocks.eight_bit_rows(rows)
            return [codes.view(np.uint8).T ^ np.uint8(128), scales]

        codes, scales = self._put(packed, lambda: self._groups(names, pack, True))
        return codes, scales

    def _put(self, tensors: Sequence[Packed], groups: Groups) -> list[ir.Value]:
        """Returns the initializers of these tensors; writes them at the first call only.

        `groups` gives their values.
        """
        if tensors[0].name not in self.values:
            made = self._data.add(tensors, groups)
            self.values |= {tensor.name: value for tensor, value in zip(tensors, made, strict=True)}
        return [self.values[tensor.name] for tensor in tensors]

    def _groups(
        self,
        names: Sequence[str],
        pack: Callable[[str, FloatArray], list[NDArray[Any]]],
        by_columns: bool = False,
    ) -> Iterator[Sequence[NDArray[Any]]]:
        """Reads the weights by groups of rows, and yields what `pack` makes of each, in order.

        Two groups are packed at once, in threads: numpy releases the interpreter's lock.
        `by_columns`: the packed arrays are transposed. Raises UserError for a value that the type
        cannot hold.
        """
        most = COLUMN_VALUES if by_columns else ROW_VALUES
        step = max(2, most // self.columns(names[0]) // 2 * 2)  # two rows may share bytes
        parts = [
            (name, start, min(start + step, self.rows([name])))
            for name in names
            for start in range(0, self.rows([name]), step)
        ]

        def made(part: tuple[str, int, int]) -> Sequence[NDArray[Any]]:
            name, start, stop = part
            rows = self._weights.read(f"{name}.weight", start, stop)
            rows = rows.reshape(len(rows), -1)
            return finite.packed(f"{name}.weight", rows, lambda rows: pack(name, rows))

        return ahead(made, parts)

    def _account(self, names: Sequence[str], packed: Sequence[Packed], kind: str) -> None:
        sizes = {name: prod(self._shapes[f"{name}.weight"]) for name in names}
        written = sum(part.nbytes for part in packed if not self._data.has(part))
        bytes_per_weight = written / sum(sizes.values())
        quantized = kind.startswith("int")
        for name, size in sizes.items():
            nbytes = round(size * bytes_per_weight)
            self._ledger.add(f"{name}.weight", size, nbytes, kind, quantized)


def _dividing(columns: int, block: int) -> int:
    """Returns the largest even divisor of `columns` from 3/4 `block` to `block`, or `block`."""
    fitting = (n for n in range(block, block * 3 // 4 - 1, -2) if columns % n == 0)
    return next(fitting, block)


def _key(names: Sequence[str], part: str) -> str:
    return f"{'+'.join(names)}.{part}"
