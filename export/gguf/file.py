"""Writes a GGUF file: its metadata, then one tensor after another."""

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

# llama.cpp reads counts and ids as unsigned. Values of other types are sequences: GGUF arrays.
VALUE_TYPES: Mapping[type, GGUFValueType] = {
    bool: GGUFValueType.BOOL,
    int: GGUFValueType.UINT32,
    float: GGUFValueType.FLOAT32,
    str: GGUFValueType.STRING,
}


@dataclass(frozen=True)
class PlannedFile:
    """A GGUF file that is to be written: all of it except the tensors' values.

    arch: the value of general.architecture, which `metadata` leaves out and the writer adds.
    tensors: in the order of the file.
    """

    name: str
    arch: str
    metadata: Metadata
    tensors: tuple[Planned, ...]

    def nbytes(self, further_metadata: int = 0) -> int:
        """Returns the exact size of the written file in bytes (format: ggml's docs/gguf.md).

        `further_metadata`: bytes (from `metadata_bytes`) of key-values that the file will also
        have, but that `metadata` lacks so far.
        """
        header = 4 + 4 + 8 + 8  # magic, version, number of tensors, number of key-values
        header += metadata_bytes({ARCHITECTURE: self.arch, **self.metadata}) + further_metadata
        for tensor in self.tensors:  # name, number of axes, axes, type, offset
            piece = tensor.piece
            header += _string_bytes(piece.name) + 4 + 8 * len(piece.shape) + 4 + 8
        return _aligned(header) + sum(_aligned(tensor.weight_bytes) for tensor in self.tensors)


def metadata_bytes(metadata: Metadata) -> int:
    """Returns how many bytes the key-values take in a file: each has a key, a type and a value."""
    return sum(_string_bytes(key) + 4 + _value_bytes(value) for key, value in metadata.items())


def write_file(path: Path, planned: PlannedFile, weights: Weights, rounding: Rounding) -> None:
    """Writes `planned` to `path`, with a few rows of a tensor in memory at a time.

    `rounding` rounds the values of 4-bit tensors. Raises UserError for a value that its tensor's
    type cannot hold.
    """
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
    """Returns the bytes of a value without its own type tag.

    An array's bytes include the type of its items (4 bytes) and their number (8 bytes).
    """
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
    """Returns the bytes of a stored string: its length (8 bytes), then its UTF-8."""
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
