"""The external data of one ONNX graph, written tensor by tensor in the order of use.

NOT aware of graphs or of quantization.
"""

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

    def bytes_like(self, other: "Packed") -> bool:
        """Whether a tensor of the same name has the same bytes, in whatever shape."""
        alike = (self.name, self.dtype, self.by_columns) == (
            other.name,
            other.dtype,
            other.by_columns,
        )
        return alike and self.nbytes == other.nbytes


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes are: a file's name in the graphs' folder, and an offset in it."""

    tensor: Packed
    file: str
    offset: int


Places = dict[str, Place]
"""Of an artifact's tensors, by their names."""


class DataFile:
    """`<graph>.onnx_data`: gives tensors their places and writes their bytes.

    A tensor that has a place in `known`, of an earlier graph, is not written again: a tied head is
    the embedding's table. Two graphs may shape the same bytes differently.
    With `chunk_bytes` it goes on in `<graph>.onnx_data_1`, …: no tensor is divided, so only one
    that is larger itself makes a larger file. Without `create` it only counts: places and `sizes`
    are those of the written one, and values are never asked for.
    """

    def __init__(
        self,
        path: Path,
        create: Callable[[Path], BinaryIO] | None = None,
        chunk_bytes: int | None = None,
        known: Places | None = None,
    ) -> None:
        self._known: Places = {} if known is None else known
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
        """The tensors as initializers; `groups` are their values, packed as they say."""
        if all(self.has(tensor) for tensor in tensors):
            return [self._initializer(tensor) for tensor in tensors]
        self._begin_chunk(sum(tensor.nbytes for tensor in tensors) + PAGE * len(tensors))
        self._known |= {tensor.name: self._placed(tensor) for tensor in tensors}
        initializers = [self._initializer(tensor) for tensor in tensors]
        if self._file is not None:
            self._write(self._file, tensors, initializers, groups())
        return initializers

    def has(self, tensor: Packed) -> bool:
        """Whether its bytes are there already."""
        place = self._known.get(tensor.name)
        return place is not None and place.tensor.bytes_like(tensor)

    def _begin_chunk(self, nbytes: int) -> None:
        """The next file, if so many more bytes are too many for this one."""
        if self._chunk_bytes is None or not self._ends[-1]:
            return
        if self._ends[-1] + nbytes > self._chunk_bytes:
            self._ends.append(0)
            name = self._name(len(self._ends) - 1)
            self._file = self._create(self._path.with_name(name)) if self._create else None

    def _name(self, chunk: int) -> str:
        return f"{self._path.name}_{chunk}" if chunk else self._path.name

    def _placed(self, tensor: Packed) -> Place:
        align = PAGE if tensor.nbytes >= PAGE else LINE
        offset = self._ends[-1] + -self._ends[-1] % align
        self._ends[-1] = offset + tensor.nbytes
        return Place(tensor, self._name(len(self._ends) - 1), offset)

    def _initializer(self, tensor: Packed) -> ir.Value:
        place = self._known[tensor.name]
        external = ir.ExternalTensor(
            place.file,
            place.offset,
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
    """Columns [.., some] of a tensor [.., columns], behind `before` bytes of other columns."""
    rows = prod(tensor.shape[:-1])
    stride, skipped = tensor.nbytes // rows, before // rows
    for row, part in enumerate(array):
        file.seek(start + row * stride + skipped)
        file.write(np.ascontiguousarray(part).data)


@contextmanager
def new_data_file(
    path: Path, chunk_bytes: int | None = None, known: Places | None = None
) -> Iterator[DataFile]:
    """A data file that is written to `path` and, with `chunk_bytes`, to files beside it."""
    with ExitStack() as stack:

        def create(path: Path) -> BinaryIO:
            return stack.enter_context(path.open("wb"))

        yield DataFile(path, create, chunk_bytes, known)
