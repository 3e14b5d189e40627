"""Writes a GGUF file: metadata, then each tensor as it is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from gguf import GGUF_DEFAULT_ALIGNMENT, GGUFValueType, GGUFWriter

from export.gguf.metadata import ARCHITECTURE, Metadata, Value
from export.gguf.packing import Planned, packed
from export.quantize.rounding import Rounding
from export.weights import Weights

# llama.cpp reads counts and ids as unsigned; everything else that has several values is an array.
VALUE_TYPES: Mapping[type, GGUFValueType] = {
    bool: GGUFValueType.BOOL,
    int: GGUFValueType.UINT32,
    float: GGUFValueType.FLOAT32,
    str: GGUFValueType.STRING,
}


@dataclass(frozen=True)
class PlannedFile:
    """A GGUF file before it is written: everything except the tensors' values."""

    name: str
    arch: str
    """general.architecture, which the writer adds before `metadata`."""
    metadata: Metadata
    tensors: tuple[Planned, ...]

    def nbytes(self, further_metadata: int = 0) -> int:
        """The file's exact size (ggml's docs/gguf.md: header, key-values, tensor infos, data).

        `further_metadata`: bytes of key-values (metadata_bytes) that `metadata` leaves out.
        """
        header = 4 + 4 + 8 + 8  # magic, version, number of tensors, number of key-values
        header += metadata_bytes({ARCHITECTURE: self.arch, **self.metadata}) + further_metadata
        for tensor in self.tensors:  # name, number of axes, axes, type, offset
            piece = tensor.piece
            header += _string_bytes(piece.name) + 4 + 8 * len(piece.shape) + 4 + 8
        return _aligned(header) + sum(_aligned(tensor.weight_bytes) for tensor in self.tensors)


def metadata_bytes(metadata: Metadata) -> int:
    """Bytes of key-values: of each, the key, the value's type and the value."""
    return sum(_string_bytes(key) + 4 + _value_bytes(value) for key, value in metadata.items())


def write_file(path: Path, planned: PlannedFile, weights: Weights, rounding: Rounding) -> None:
    """Write the file with a few rows in memory at a time. Raises UserError."""
    _write_header(path, planned)
    with path.open("ab") as file:
        _align(file)
        for tensor in planned.tensors:
            for values in packed(weights, tensor, rounding):
                file.write(np.ascontiguousarray(values).data)
            _align(file)


def _align(file: BinaryIO) -> None:
    file.write(bytes(_aligned(file.tell()) - file.tell()))


def _aligned(nbytes: int) -> int:
    return nbytes + -nbytes % GGUF_DEFAULT_ALIGNMENT


def _value_bytes(value: Value) -> int:
    """Bytes of a value without its type; an array begins with its items' type and number."""
    if isinstance(value, str):
        return _string_bytes(value)
    if isinstance(value, bool):
        return 1
    if isinstance(value, int | float):
        return 4
    if not value or isinstance(value[0], str):  # all at once: a vocabulary has many
        return 4 + 8 + 8 * len(value) + len("".join(cast(Sequence[str], value)).encode())
    return 4 + 8 + len(value) * _value_bytes(value[0])


def _string_bytes(text: str) -> int:
    """Bytes of a string: its length and its UTF-8."""
    return 8 + len(text.encode())


def _write_header(path: Path, planned: PlannedFile) -> None:
    writer = GGUFWriter(path, planned.arch)
    for key, value in planned.metadata.items():
        writer.add_key_value(key, value, VALUE_TYPES.get(type(value), GGUFValueType.ARRAY))
    for tensor in planned.tensors:
        piece, kind = tensor.piece, np.dtype(np.float32)
        writer.add_tensor_info(piece.name, piece.shape, kind, tensor.weight_bytes, tensor.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
