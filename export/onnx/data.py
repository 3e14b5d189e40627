"""Writes the external data file of an ONNX graph, tensor by tensor in the order of use."""

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
"""Gives the values of some tensors by groups of rows, from first to last; a group has one array for
each tensor."""


@dataclass(frozen=True)
class Packed:
    """Describes one tensor of a data file, without its values: all that decides its size.

    name: of the graph's initializer. by_columns: the file has the matrix transposed, so values that
    arrive by rows are written as columns.
    """

    name: str
    dtype: ir.DataType
    shape: Shape
    by_columns: bool = False

    @property
    def nbytes(self) -> int:
        """Returns the tensor's size in bytes; 4-bit elements share bytes along the last axis."""
        return -(-prod(self.shape) * self.dtype.bitwidth // 8)

    def bytes_like(self, other: "Packed") -> bool:
        """Whether both have the same name, type and size, so the same bytes; shapes may differ."""
        alike = (self.name, self.dtype, self.by_columns) == (
            other.name,
            other.dtype,
            other.by_columns,
        )
        return alike and self.nbytes == other.nbytes


@dataclass(frozen=True)
class Location:
    """Says where a tensor's bytes are: a file in the folder of the graphs, and the byte offset."""

    tensor: Packed
    file: str
    offset: int


Locations = dict[str, Location]
"""Locations of an artifact's tensors, by name."""


class DataFile:
    """Writes tensors into the data file of one graph, `path` (`<graph>.onnx_data`).

    create: opens a file for writing. None: nothing is written and no value is read, but locations
    and `sizes` are the same. chunk_bytes: a file that would exceed it is continued in
    `<graph>.onnx_data_1`, …; a tensor is never divided, so a larger tensor makes a larger file.
    known: locations of tensors that earlier graphs have written; they are not written again (a tied
    head uses the embedding's table), though two graphs may give the same bytes different shapes.
    New tensors are added to it.
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
        """Returns the bytes of each data file so far, by file name."""
        return {self._name(n): end for n, end in enumerate(self._ends)}

    def add(self, tensors: Sequence[Packed], groups: Groups) -> list[ir.Value]:
        """Writes the tensors, unless they are written already, and returns them as initializers.

        `groups` is called for their packed values only if they are written.
        """
        if all(self.has(tensor) for tensor in tensors):
            return [self._initializer(tensor) for tensor in tensors]
        self._begin_chunk(sum(tensor.nbytes for tensor in tensors) + PAGE * len(tensors))
        self._known |= {tensor.name: self._allocate(tensor) for tensor in tensors}
        initializers = [self._initializer(tensor) for tensor in tensors]
        if self._file is not None:
            self._write(self._file, tensors, initializers, groups())
        return initializers

    def has(self, tensor: Packed) -> bool:
        """Whether a tensor with this name and these bytes is written already."""
        location = self._known.get(tensor.name)
        return location is not None and location.tensor.bytes_like(tensor)

    def _begin_chunk(self, nbytes: int) -> None:
        """Starts the next file if `nbytes` more in this one would exceed `chunk_bytes`."""
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
    """Writes some columns of `tensor` [.., columns], given as `array` [.., some], into `file`.

    `start`: the tensor's offset in the file. `before`: bytes of the columns to the left of them,
    which are written already.
    """
    rows = prod(tensor.shape[:-1])
    stride, skipped = tensor.nbytes // rows, before // rows
    for row, part in enumerate(array):
        file.seek(start + row * stride + skipped)
        file.write(np.ascontiguousarray(part).data)


@contextmanager
def new_data_file(
    path: Path, chunk_bytes: int | None = None, known: Locations | None = None
) -> Iterator[DataFile]:
    """Opens a DataFile that writes to `path`, and closes its files at the end of the `with` block.

    `chunk_bytes` and `known` are those of DataFile.
    """
    with ExitStack() as stack:

        def create(path: Path) -> BinaryIO:
            return stack.enter_context(path.open("wb"))

        yield DataFile(path, create, chunk_bytes, known)
