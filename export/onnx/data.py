"""The external data file of one ONNX graph, written tensor by tensor in the order of use.

NOT aware of graphs or of quantization.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.families.spec import Shape

# ONNX Runtime maps the file: tensors of a page and more start on one (ONNX ExternalData.md).
PAGE, LINE = 4096, 64

Groups = Callable[[], Iterable[Sequence[NDArray[Any]]]]
"""Values of some tensors in groups of rows, first to last: of each group an array for each."""


@dataclass(frozen=True)
class Packed:
    """One tensor as it is kept, before its values are there: what decides its bytes.

    by_columns: a group of rows is a group of the tensor's columns, as of a transposed matrix.
    """

    name: str
    dtype: ir.DataType
    shape: Shape
    by_columns: bool = False

    @property
    def nbytes(self) -> int:
        """Types under a byte share bytes along the last axis."""
        return -(-prod(self.shape) * self.dtype.bitwidth // 8)


class DataFile:
    """`<graph>.onnx_data`: gives tensors their places and writes their bytes.

    Without a file it only counts: places and `nbytes` are those of the written one, and values are
    never asked for.
    """

    def __init__(self, path: Path, file: BinaryIO | None = None) -> None:
        self._path = path
        self._file = file
        self.nbytes = 0

    def add(self, tensors: Sequence[Packed], groups: Groups) -> list[ir.Value]:
        """The tensors as initializers; `groups` are their values, packed as they say."""
        initializers = [self._placed(tensor) for tensor in tensors]
        if self._file is not None:
            self._write(self._file, tensors, initializers, groups())
        return initializers

    def _placed(self, tensor: Packed) -> ir.Value:
        align = PAGE if tensor.nbytes >= PAGE else LINE
        offset = self.nbytes + -self.nbytes % align
        self.nbytes = offset + tensor.nbytes
        external = ir.ExternalTensor(
            self._path.name,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape),
            name=tensor.name,
            base_dir=self._path.parent,
        )
        return ir.Value(
            name=tensor.name,
            shape=external.shape,
            type=ir.TensorType(tensor.dtype),
            const_value=external,
        )

    def _write(
        self,
        file: BinaryIO,
        tensors: Sequence[Packed],
        initializers: Sequence[ir.Value],
        groups: Iterable[Sequence[NDArray[Any]]],
    ) -> None:
        written = [0] * len(tensors)
        for group in groups:
            for n, (tensor, value, array) in enumerate(
                zip(tensors, initializers, group, strict=True)
            ):
                external = value.const_value
                assert isinstance(external, ir.ExternalTensor)
                start = external.offset or 0
                if tensor.by_columns and array.nbytes < tensor.nbytes:
                    _write_columns(file, start, tensor, written[n], array)
                else:
                    file.seek(start + written[n])
                    file.write(np.ascontiguousarray(array).data)
                written[n] += array.nbytes
        for tensor, count in zip(tensors, written, strict=True):
            assert count == tensor.nbytes, f"{tensor} is not {count} bytes"


def _write_columns(
    file: BinaryIO, start: int, tensor: Packed, before: int, array: NDArray[Any]
) -> None:
    """Columns [rows, some] of a tensor [rows, columns], behind `before` bytes of other columns."""
    rows = tensor.shape[0]
    stride, skipped = tensor.nbytes // rows, before // rows
    for row, part in enumerate(array):
        file.seek(start + row * stride + skipped)
        file.write(np.ascontiguousarray(part).data)


@contextmanager
def new_data_file(path: Path) -> Iterator[DataFile]:
    """A data file that is written to `path`."""
    with path.open("wb") as file:
        yield DataFile(path, file)
