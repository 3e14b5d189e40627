"""Writes one GGUF file: metadata, then each tensor as it is read. NOT aware of what they mean."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from gguf import GGUF_DEFAULT_ALIGNMENT, GGUFValueType, GGUFWriter

from export.gguf.metadata import Metadata
from export.gguf.packing import Planned, packed
from export.weights import Weights

# llama.cpp reads counts and ids as unsigned; everything else that has several values is an array.
VALUE_TYPES: Mapping[type, GGUFValueType] = {
    bool: GGUFValueType.BOOL,
    int: GGUFValueType.UINT32,
    float: GGUFValueType.FLOAT32,
    str: GGUFValueType.STRING,
}


def write_file(
    path: Path, arch: str, metadata: Metadata, tensors: Iterable[Planned], weights: Weights
) -> None:
    """Write `path` with general.architecture = `arch`; never more than a few rows in memory."""
    tensors = tuple(tensors)
    _write_header(path, arch, metadata, tensors)
    with path.open("ab") as file:
        _align(file)
        for tensor in tensors:
            for values in packed(weights, tensor):
                file.write(np.ascontiguousarray(values).data)
            _align(file)


def _align(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % GGUF_DEFAULT_ALIGNMENT))


def _write_header(path: Path, arch: str, metadata: Metadata, tensors: tuple[Planned, ...]) -> None:
    writer = GGUFWriter(path, arch)
    for key, value in metadata.items():
        writer.add_key_value(key, value, VALUE_TYPES.get(type(value), GGUFValueType.ARRAY))
    for tensor in tensors:
        writer.add_tensor_info(
            tensor.name, tensor.shape, np.dtype(np.float32), tensor.weight_bytes, tensor.type
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
