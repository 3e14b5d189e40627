"""The external data file of one ONNX graph, written tensor by tensor in the order of use.

NOT aware of graphs or of quantization.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import onnx_ir as ir
from numpy.typing import NDArray

from export.families.spec import Shape

# ONNX Runtime maps the file: tensors of a page and more start on one (ONNX ExternalData.md).
PAGE, LINE = 4096, 64

Values = Callable[[], Sequence[NDArray[Any]]]


@dataclass(frozen=True)
class Packed:
    """One tensor as it is kept, before its values are there: what decides its bytes."""

    name: str
    dtype: ir.DataType
    shape: Shape

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

    def add(self, tensors: Sequence[Packed], values: Values) -> list[ir.Value]:
        """The tensors as initializers; `values` are theirs, in order and packed as they say."""
        initializers = [self._placed(tensor) for tensor in tensors]
        if self._file is not None:
            for tensor, initializer, array in zip(tensors, initializers, values(), strict=True):
                assert array.nbytes == tensor.nbytes, f"{tensor} is not {array.nbytes} bytes"
                self._write(self._file, initializer, array)
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

    def _write(self, file: BinaryIO, initializer: ir.Value, array: NDArray[Any]) -> None:
        external = initializer.const_value
        assert isinstance(external, ir.ExternalTensor)
        file.seek(external.offset or 0)
        file.write(array.data if array.flags.c_contiguous else array.tobytes())


@contextmanager
def new_data_file(path: Path) -> Iterator[DataFile]:
    """A data file that is written to `path`."""
    with path.open("wb") as file:
        yield DataFile(path, file)
