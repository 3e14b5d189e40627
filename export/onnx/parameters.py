"""Weights as initializers: read, rounded as the recipe says, written, dropped, and accounted for.

Type, shape and so bytes of an initializer follow from shapes and recipe; values are only asked for
by a data file that is written. NOT aware of graphs: it answers "the initializers that hold this
weight in this packing".
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.ahead import ahead
from export.arrays import FloatArray
from export.manifest import Fallback, Quantization, Share
from export.modeling.tensors import Shape
from export.modeling.vlm import component
from export.onnx.data import DataFile, Groups, Packed
from export.quantize import blocks
from export.quantize.recipe import Recipe, Storage
from export.quantize.rounding import Rounding
from export.weights import Weights

ROW_VALUES = 1 << 20
"""Values that are read and packed at once: their copies stay in a processor's cache."""
COLUMN_VALUES = 1 << 21
"""The same where each row is written in many places: fewer, larger groups."""
FLOATS = {32: (np.float32, ir.DataType.FLOAT), 16: (np.float16, ir.DataType.FLOAT16)}


class Ledger:
    """What every weight became, summed over all graphs of an artifact.

    A weight in two graphs (a tied head) is one parameter; its bytes count as often as they are
    written.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._sums: dict[str, Counter[str]] = {}
        self._types: Counter[str] = Counter()
        self._fallbacks: dict[str, Fallback] = {}

    def fell_back(self, names: Sequence[str], asked: str, got: str, reason: str) -> None:
        """These weights are not kept as their recipe asked."""
        for name in names:
            self._fallbacks[name] = Fallback(f"{name}.weight", asked, got, reason)

    def add(self, name: str, parameters: int, nbytes: int, kind: str, quantized: bool) -> None:
        sums = self._sums.setdefault(component(name), Counter())
        sums["weight_bytes"] += nbytes
        if name in self._known:
            return
        self._known.add(name)
        sums["parameters"] += parameters
        sums["quantized_parameters"] += parameters if quantized else 0
        self._types[kind] += parameters

    def result(self) -> Quantization:
        shares = {
            name: Share(s["parameters"], s["quantized_parameters"], s["weight_bytes"])
            for name, s in self._sums.items()
        }
        return Quantization.of(shares, dict(self._types), tuple(self._fallbacks.values()))


class Parameters:
    """The initializers of one graph, each written once."""

    def __init__(
        self,
        weights: Weights,
        recipe: Recipe,
        data: DataFile,
        ledger: Ledger,
        rounding: Rounding = Rounding(),  # noqa: B008  (frozen)
        half: bool = False,
    ) -> None:
        """`half`: scales of blocks are float16."""
        self._weights = weights
        self._rounding = rounding
        self._shapes = weights.shapes()
        self._recipe = recipe
        self._data = data
        self._ledger = ledger
        self._half = half
        self._identities: dict[int, ir.Value] = {}
        self.values: dict[str, ir.Value] = {}

    def storage(self, name: str) -> Storage:
        """What the recipe says of `{name}.weight`."""
        return self._recipe.storage(f"{name}.weight", self._shapes[f"{name}.weight"])

    def rows(self, names: Sequence[str]) -> int:
        """Outputs of the weights side by side."""
        return sum(self._shapes[f"{name}.weight"][0] for name in names)

    def columns(self, name: str) -> int:
        """Inputs of a weight; trailing axes of a patch kernel count as one."""
        return prod(self._shapes[f"{name}.weight"][1:])

    def constant(
        self, name: str, dtype: ir.DataType, shape: Shape, values: Callable[[], NDArray[Any]]
    ) -> ir.Value:
        """An initializer with these values; the same name gives the same initializer."""
        packed = Packed(name, dtype, shape)
        return self._put([packed], lambda: [[values().astype(dtype.numpy())]])[0]

    def integers(self, *values: int) -> ir.Value:
        """A small int64 constant, kept in the graph itself: shape inference reads its values."""
        return self._small(np.array(values, np.int64))

    def floats(self, *values: float, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
        """A small float constant, kept in the graph itself."""
        return self._small(np.array(values, dtype.numpy()))

    def scalar(self, value: int | float) -> ir.Value:
        """An int64 or float32 scalar, kept in the graph itself."""
        kind = np.int64 if isinstance(value, int) else np.float32
        return self._small(np.array(value, kind), "scalar.")

    def bytes(self, value: int) -> ir.Value:
        """A uint8 scalar, kept in the graph itself."""
        return self._small(np.array(value, np.uint8))

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
        """Tensors kept as floats of so many bits, joined end to end (full names)."""
        numpy_type, dtype = FLOATS[bits]
        shapes = [self._shapes[name] for name in names]
        for name, shape in zip(names, shapes, strict=True):
            size = prod(shape)
            kind = str(np.dtype(numpy_type))
            self._ledger.add(name, size, bits // 8 * size, kind, quantized=False)
        joined = (sum(shape[0] for shape in shapes), *shapes[0][1:])

        def values() -> list[list[NDArray[Any]]]:
            parts = [self._weights.read(name) for name in names]
            return [[np.concatenate(parts).astype(numpy_type, copy=False)]]

        return self._put([Packed("+".join(names), dtype, joined)], values)[0]

    def has_rows(self, names: Sequence[str], bits: int) -> bool:
        """Whether an earlier graph has these weights as float rows, not transposed."""
        return self._data.has(self._dense(names, bits, transposed=False))

    def _dense(self, names: Sequence[str], bits: int, transposed: bool) -> Packed:
        shape = (self.rows(names), self.columns(names[0]))
        stored = shape[::-1] if transposed else shape
        return Packed(_key(names, "weight"), FLOATS[bits][1], stored, transposed)

    def dense(self, names: Sequence[str], bits: int, transposed: bool) -> ir.Value:
        """Float rows of `{name}.weight` for all names, [rows, columns] or transposed."""
        numpy_type, _ = FLOATS[bits]
        packed = self._dense(names, bits, transposed)
        self._account(names, [packed], str(np.dtype(numpy_type)))

        def pack(_: str, rows: FloatArray) -> list[NDArray[Any]]:
            values = rows.astype(numpy_type)
            return [values.T if transposed else values]

        return self._put([packed], lambda: self._groups(names, pack, transposed))[0]

    def has_half_scales(self, names: Sequence[str]) -> bool:
        """Whether `in_halves` keeps the weight: a table whose rows are looked up, a tied head among
        them, and whatever a graph in half precision multiplies."""
        return self._half or component(f"{names[0]}.weight") == "embedding"

    def in_halves(
        self, names: Sequence[str], storage: Storage, flat: bool = False
    ) -> tuple[ir.Value, ir.Value]:
        """Codes [rows, blocks, bytes] and float16 scales [rows, blocks].

        `flat` codes [rows, bytes of a row] are what GatherBlockQuantized reads, the others what
        MatMulNBits does.
        """
        rows, blocks_a_row = self.rows(names), self._blocks_a_row(names, storage)
        codes = self._codes(names, storage)
        if flat:
            codes = replace(codes, shape=(rows, codes.nbytes // rows))
        scales = Packed(_key(names, "scales"), ir.DataType.FLOAT16, (rows, blocks_a_row))

        def pack(name: str, rows: FloatArray) -> list[NDArray[Any]]:
            if storage.bits == 4:
                codes, scales = self._rounding.four_bits(name, rows, storage)
                return [blocks.pairs(codes), scales.astype(np.float16)]
            codes, scales = blocks.eight_bits(rows, storage.block)
            return [codes, scales.astype(np.float16)]

        self._account(names, [codes, scales], f"int{storage.bits} in blocks of {storage.block}")
        found = self._put([codes, scales], lambda: self._groups(names, pack))
        return found[0], found[1]

    def blocked(
        self, names: Sequence[str], storage: Storage
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Codes [rows, blocks, bytes] as MatMulNBits reads them; a block's scale is its int8 factor
        [rows, blocks] times the float32 scale [rows, 1] of its row."""
        rows, blocks_a_row = self.rows(names), self._blocks_a_row(names, storage)
        packed = [
            self._codes(names, storage),
            Packed(_key(names, "factors"), ir.DataType.INT8, (rows, blocks_a_row)),
            Packed(_key(names, "scales"), ir.DataType.FLOAT, (rows, 1)),
        ]

        def pack(name: str, rows: FloatArray) -> list[NDArray[Any]]:
            if storage.bits == 8:
                return list(blocks.eight_bit_factors(rows, storage.block))
            codes, scales = self._rounding.four_bits(name, rows, storage)
            return [blocks.pairs(codes), *blocks.row_factors(scales)]

        self._account(names, packed, f"int{storage.bits} in blocks of {storage.block}")
        codes, factors, scales = self._put(packed, lambda: self._groups(names, pack))
        return codes, factors, scales

    def _codes(self, names: Sequence[str], storage: Storage) -> Packed:
        shape = self.rows(names), self._blocks_a_row(names, storage)
        width = storage.block * storage.bits // 8
        return Packed(_key(names, "codes"), ir.DataType.UINT8, (*shape, width))

    def _blocks_a_row(self, names: Sequence[str], storage: Storage) -> int:
        return -(-self.columns(names[0]) // storage.block)

    def int4_columns(
        self, names: Sequence[str], storage: Storage
    ) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
        """uint4 codes around 8 [blocks, block, rows], int8 factors [blocks, 1, rows], float32
        scales [rows], and the uint8 identity [block, block]; rows are even.

        Codes times factors are int8 (blocks.four_bit_rows). Blocks are a little shorter than asked
        where that divides the columns; else the last one is padded.
        """
        rows, columns = self.rows(names), self.columns(names[0])
        storage = replace(storage, block=_dividing(columns, storage.block))
        count, block = self._blocks_a_row(names, storage), storage.block
        packed = [
            Packed(_key(names, "codes"), ir.DataType.UINT4, (count, block, rows), True),
            Packed(_key(names, "factors"), ir.DataType.INT8, (count, 1, rows), True),
            Packed(_key(names, "scales"), ir.DataType.FLOAT, (rows,)),
        ]
        self._account(names, packed, f"int4 in blocks of {block}, by rows")

        def pack(name: str, rows: FloatArray) -> list[NDArray[Any]]:
            codes, factors, scales = self._rounding.four_bit_rows(name, rows, storage)
            lines = (codes.view(np.uint8) + np.uint8(8)).reshape(len(rows), -1).T
            return [blocks.pairs(lines), factors.T, scales]

        codes, factors, scales = self._put(packed, lambda: self._groups(names, pack, True))
        if block not in self._identities:  # named after the weight: no other graph refers to it
            name, shape = _key(names, "identity"), (block, block)
            identity = self.constant(name, ir.DataType.UINT8, shape, lambda: np.eye(block))
            self._identities[block] = identity
        return codes, factors, scales, self._identities[block]

    def pads(self, columns: int, storage: Storage) -> bool:
        """Whether `int4_columns` has more than so many columns."""
        return columns % _dividing(columns, storage.block) > 0

    def uint8_columns(self, names: Sequence[str], storage: Storage) -> tuple[ir.Value, ir.Value]:
        """uint8 [columns, rows] around 128 and float32 scales [rows], for DynamicQuantizeMatMul."""
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
        """The initializers of these names, made once."""
        if tensors[0].name not in self.values:
            made = self._data.add(tensors, groups)
            self.values |= {tensor.name: value for tensor, value in zip(tensors, made, strict=True)}
        return [self.values[tensor.name] for tensor in tensors]

    def _groups(
        self,
        names: Sequence[str],
        pack: Callable[[str, FloatArray], list[NDArray[Any]]],
        by_columns: bool = False,
    ) -> Iterator[list[NDArray[Any]]]:
        """The weights' rows one after the other, packed by groups.

        Two groups are in the making at once: numpy lets other threads work meanwhile.
        """
        most = COLUMN_VALUES if by_columns else ROW_VALUES
        step = max(2, most // self.columns(names[0]) // 2 * 2)  # two rows may share bytes
        parts = [
            (name, start, min(start + step, self.rows([name])))
            for name in names
            for start in range(0, self.rows([name]), step)
        ]

        def made(part: tuple[str, int, int]) -> list[NDArray[Any]]:
            name, start, stop = part
            rows = self._weights.read(f"{name}.weight", start, stop)
            return pack(name, rows.reshape(len(rows), -1))

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
    """The longest block that divides the columns if it is three quarters of `block` or more."""
    fitting = (n for n in range(block, block * 3 // 4 - 1, -1) if columns % n == 0)
    return next(fitting, block)


def _key(names: Sequence[str], part: str) -> str:
    return f"{'+'.join(names)}.{part}"
