"""Writes the external data of an ONNX graph, tensor by tensor in the order of use."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.modeling.tensors import Shape

# ONNX Runtime maps the file, so tensors of a page or more are aligned to pages (ExternalData.md).
PAGE, LINE = 4096, 64

Groups = Callable[[], Iterable[Sequence[NDArray[Any]]]]
"""Values of some tensors by groups of rows, from first to last: an array per tensor and group."""


@dataclass(frozen=True)
class Packed:
    """One tensor in the file, without its values: what decides its bytes.

    by_columns: the tensor is a transposed matrix, so a group of rows is a group of its columns.
    """

    name: str
    dtype: ir.DataType
    shape: Shape
    by_columns: bool = False

    @property
    def nbytes(self) -> int:
        """Elements smaller than a byte share bytes along the last axis."""
        return -(-prod(self.shape) * self.dtype.bitwidth // 8)

    def bytes_like(self, other: "Packed") -> bool:
        """Whether both have the same name and bytes; shapes may differ."""
        alike = (self.name, self.dtype, self.by_columns) == (
            other.name,
            other.dtype,
            other.by_columns,
        )
        return alike and self.nbytes == other.nbytes


@dataclass(frozen=True)
class Location:
    """Where a tensor's bytes are: a file in the folder of the graphs, and the offset in it."""

    tensor: Packed
    file: str
    offset: int


Locations = dict[str, Location]
"""Of an artifact's tensors, by name."""


class DataFile:
    """`<graph>.onnx_data`: assigns locations to tensors and writes their bytes.

    A tensor that an earlier graph has written (`known`) is not written again: a tied head uses the
    embedding's table. Two graphs may give the same bytes different shapes.
    With `chunk_bytes`, a full file is continued in `<graph>.onnx_data_1`, …; tensors are not
    divided, so only a tensor that is larger itself makes a larger file. Without `create`, nothing
    is written and no value is read: locations and `sizes` are those of the written file.
    """

    def __init__(
        self,
        path: Path,
        create: Callable[[Path], BinaryIO] | None = None,
        chunk_bytes: int | None = None,
        known: Locations | None = None,
    ) -> None:
        self._known: Locations = {} if known is None else known
        self._path = path
        self._create = create
        self._chunk_bytes = chunk_bytes
        self._file = create(path) if create else None
        self._ends = [0]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name."""
        return {self._name(n): end for n, end in enumerate(self._ends)}

    def add(self, tensors: Sequence[Packed], groups: Groups) -> list[ir.Value]:
        """The tensors as initializers; `groups` gives their packed values."""
        if all(self.has(tensor) for tensor in tensors):
            return [self._initializer(tensor) for tensor in tensors]
        self._begin_chunk(sum(tensor.nbytes for tensor in tensors) + PAGE * len(tensors))
        self._known |= {tensor.name: self._allocate(tensor) for tensor in tensors}
        initializers = [self._initializer(tensor) for tensor in tensors]
        if self._file is not None:
            self._write(self._file, tensors, initializers, groups())
        return initializers

    def has(self, tensor: Packed) -> bool:
        """Whether its bytes are written already."""
        location = self._known.get(tensor.name)
        return location is not None and location.tensor.bytes_like(tensor)

    def _begin_chunk(self, nbytes: int) -> None:
        """Continue in the next file if so many more bytes exceed `chunk_bytes`."""
        if self._chunk_bytes is None or not self._ends[-1]:
            return
        if self._ends[-1] + nbytes > self._chunk_bytes:
            self._ends.append(0)
            name = self._name(len(self._ends) - 1)
            self._file = self._create(self._path.with_name(name)) if self._create else None

    def _name(self, chunk: int) -> str:
        return f"{self._path.name}_{chunk}" if chunk else self._path.name

    def _allocate(self, tensor: Packed) -> Location:
        align = PAGE if tensor.nbytes >= PAGE else LINE
        offset = self._ends[-1] + -self._ends[-1] % align
        self._ends[-1] = offset + tensor.nbytes
        return Location(tensor, self._name(len(self._ends) - 1), offset)

    def _initializer(self, tensor: Packed) -> ir.Value:
        location = self._known[tensor.name]
        external = ir.ExternalTensor(
            location.file,
            location.offset,
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
    """Write columns [.., some] of a tensor [.., columns] after `before` bytes of other columns."""
    rows = prod(tensor.shape[:-1])
    stride, skipped = tensor.nbytes // rows, before // rows
    for row, part in enumerate(array):
        file.seek(start + row * stride + skipped)
        file.write(np.ascontiguousarray(part).data)


@contextmanager
def new_data_file(
    path: Path, chunk_bytes: int | None = None, known: Locations | None = None
) -> Iterator[DataFile]:
    """A data file written to `path` and, with `chunk_bytes`, to further files next to it."""
    with ExitStack() as stack:

        def create(path: Path) -> BinaryIO:
            return stack.enter_context(path.open("wb"))

        yield DataFile(path, create, chunk_bytes, known)
