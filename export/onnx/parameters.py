"""Weights as initializers: read, rounded as the recipe says, written, dropped, and accounted for.

NOT aware of graphs: it answers "the initializers that hold this weight in this packing".
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from export.onnx.data import DataFile
from export.quantize import blocks
from export.quantize.recipe import Recipe, Storage
from export.shapes import component
from export.targets import Quantization, Share
from export.weights import FloatArray, Weights

FLOATS = {32: (np.float32, ir.DataType.FLOAT), 16: (np.float16, ir.DataType.FLOAT16)}


class Ledger:
    """What every weight became, summed over all graphs of an artifact.

    A weight in two graphs (a tied head) is one parameter, but its bytes are written twice.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._sums: dict[str, Counter[str]] = {}
        self._types: Counter[str] = Counter()

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
        return Quantization(shares, dict(self._types), ())


class Parameters:
    """The initializers of one graph, each written once."""

    def __init__(self, weights: Weights, recipe: Recipe, data: DataFile, ledger: Ledger) -> None:
        self._weights = weights
        self._shapes = weights.shapes()
        self._recipe = recipe
        self._data = data
        self._ledger = ledger
        self.values: dict[str, ir.Value] = {}

    def storage(self, name: str) -> Storage:
        """What the recipe says of `{name}.weight`."""
        return self._recipe.storage(f"{name}.weight", self._shapes[f"{name}.weight"])

    def rows(self, names: Sequence[str]) -> int:
        """Outputs of the weights side by side."""
        return sum(self._shapes[f"{name}.weight"][0] for name in names)

    def columns(self, name: str) -> int:
        """Inputs of a weight; trailing axes of a patch kernel count as one."""
        return int(np.prod(self._shapes[f"{name}.weight"][1:]))

    def constant(self, name: str, values: np.ndarray, dtype: ir.DataType) -> ir.Value:
        """An initializer with these values; the same name gives the same initializer."""
        if name not in self.values:
            self.values[name] = self._data.add(name, values, dtype, list(values.shape))
        return self.values[name]

    def integers(self, *values: int) -> ir.Value:
        """A small int64 constant, kept in the graph itself: shape inference reads its values."""
        name = "int64." + ".".join(map(str, values))
        if name not in self.values:
            tensor = ir.tensor(np.array(values, np.int64), name=name)
            self.values[name] = ir.Value(
                name=name,
                shape=ir.Shape([len(values)]),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
        return self.values[name]

    def floats(self, *values: float) -> ir.Value:
        """A small float32 constant, kept in the graph itself."""
        name = "float32." + ".".join(map(str, values))
        if name not in self.values:
            tensor = ir.tensor(np.array(values, np.float32), name=name)
            self.values[name] = ir.Value(
                name=name,
                shape=ir.Shape([len(values)]),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
        return self.values[name]

    def vector(self, *names: str) -> ir.Value:
        """Tensors kept as float32, joined end to end (full names)."""
        values = np.concatenate([self._read(name) for name in names])
        for name in names:
            size = int(np.prod(self._shapes[name]))
            self._ledger.add(name, size, 4 * size, "float32", quantized=False)
        return self.constant("+".join(names), values, ir.DataType.FLOAT)

    def dense(self, names: Sequence[str], bits: int, transposed: bool) -> ir.Value:
        """Float rows of `{name}.weight` for all names, [rows, columns] or transposed."""
        numpy_type, dtype = FLOATS[bits]
        rows = self._rows(names).astype(numpy_type)
        self._account(names, bits / 8, str(np.dtype(numpy_type)))
        values = np.ascontiguousarray(rows.T) if transposed else rows
        return self.constant(_key(names, "weight"), values, dtype)

    def blocked(
        self, names: Sequence[str], storage: Storage, flat: bool = False
    ) -> tuple[ir.Value, ir.Value]:
        """Codes [rows, blocks, bytes] and float32 scales [rows, blocks], as MatMulNBits reads.

        `flat` codes [rows, bytes of a row] are what GatherBlockQuantized reads.
        """
        rows = self._rows(names)
        if storage.bits == 4:
            codes, scales = blocks.four_bits(rows, storage.block)
            codes = blocks.pairs(codes)
        else:
            codes, scales = blocks.eight_bits(rows, storage.block)
        if flat:
            codes = codes.reshape(len(rows), -1)
        per_weight = (codes.nbytes + scales.nbytes) / rows.size
        self._account(names, per_weight, f"int{storage.bits} in blocks of {storage.block}")
        return (
            self.constant(_key(names, "codes"), codes, ir.DataType.UINT8),
            self.constant(_key(names, "scales"), scales, ir.DataType.FLOAT),
        )

    def int4_rows(self, names: Sequence[str], block: int) -> tuple[ir.Value, ir.Value, ir.Value]:
        """int4 codes [rows, blocks, block], int8 factors [rows, blocks, 1], scales [rows].

        Codes times factors are int8 rows (blocks.four_bit_rows).
        """
        rows = self._rows(names)
        codes, factors, scales = blocks.four_bit_rows(rows, block)
        packed = blocks.pairs(codes.view(np.uint8) & np.uint8(15))
        nbytes = packed.nbytes + factors.nbytes + scales.nbytes
        self._account(names, nbytes / rows.size, f"int4 in blocks of {block}, by rows")
        key = _key(names, "codes")
        if key not in self.values:
            self.values[key] = self._data.add(key, packed, ir.DataType.INT4, list(codes.shape))
        return (
            self.values[key],
            self.constant(_key(names, "factors"), factors[..., None], ir.DataType.INT8),
            self.constant(_key(names, "scales"), scales, ir.DataType.FLOAT),
        )

    def int8_columns(self, names: Sequence[str]) -> tuple[ir.Value, ir.Value]:
        """int8 [columns, rows] and float32 scales [rows], as DynamicQuantizeMatMul reads."""
        codes, scales = blocks.eight_bit_rows(self._rows(names))
        self._account(names, (codes.nbytes + scales.nbytes) / codes.size, "int8 by rows")
        return (
            self.constant(_key(names, "codes"), np.ascontiguousarray(codes.T), ir.DataType.INT8),
            self.constant(_key(names, "scales"), scales, ir.DataType.FLOAT),
        )

    def _rows(self, names: Sequence[str]) -> FloatArray:
        parts = [self._read(f"{name}.weight") for name in names]
        flat = [part.reshape(len(part), -1) for part in parts]
        return flat[0] if len(flat) == 1 else np.concatenate(flat)

    def _read(self, name: str) -> FloatArray:
        return self._weights.read(name)

    def _account(self, names: Sequence[str], bytes_per_weight: float, kind: str) -> None:
        for name in names:
            size = int(np.prod(self._shapes[f"{name}.weight"]))
            quantized = kind.startswith("int")
            nbytes = round(size * bytes_per_weight)
            self._ledger.add(f"{name}.weight", size, nbytes, kind, quantized)


def _key(names: Sequence[str], part: str) -> str:
    return f"{'+'.join(names)}.{part}"
