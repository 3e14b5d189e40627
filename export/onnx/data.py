"""The external data file of one ONNX graph, written tensor by tensor in the order of use.

NOT aware of graphs or of quantization.
"""

from pathlib import Path
from types import TracebackType
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

# ONNX Runtime maps the file: tensors of a page and more start on one (ONNX ExternalData.md).
PAGE, LINE = 4096, 64


class DataFile:
    """`<graph>.onnx_data`: appends the bytes of tensors and says where they are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")

    def add(
        self, name: str, values: NDArray[Any], dtype: ir.DataType, shape: list[int]
    ) -> ir.Value:
        """Write `values` (already packed as `dtype` wants it) and return it as an initializer."""
        align = PAGE if values.nbytes >= PAGE else LINE
        offset = self._file.tell() + -self._file.tell() % align
        self._file.seek(offset)
        self._file.write(values.data if values.flags.c_contiguous else values.tobytes())
        tensor = ir.ExternalTensor(
            self._path.name,
            offset,
            values.nbytes,
            dtype,
            shape=ir.Shape(shape),
            name=name,
            base_dir=self._path.parent,
        )
        return ir.Value(
            name=name, shape=tensor.shape, type=ir.TensorType(dtype), const_value=tensor
        )

    def __enter__(self) -> "DataFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
