"""Reads the header of a GGUF file (ggml/docs/gguf.md) and refuses files that contradict it.

llama.cpp aborts the process on many damaged files, so every file is checked before it is opened.
Reads headers only, in milliseconds.
"""

import math
import mmap
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from export.errors import UserError
from export.files import short
from export.modeling.tensors import Shape

T = TypeVar("T")

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
TOKENS = "tokenizer.ggml.tokens"
STRING, ARRAY = 8, 9
SCALARS: Mapping[int, struct.Struct] = {
    kind: struct.Struct(f"<{code}")
    for kind, code in zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True)
}
MOST_AXES, SHORT_ARRAY = 4, 16

# ggml type -> values and bytes of a block (ggml.h, ggml-common.h): F32, F16, Q4_0, Q4_1, Q5_0,
# Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, IQ4_NL. Artifacts use no other type.
BLOCKS: Mapping[int, tuple[int, int]] = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    20: (32, 18),
}
F32 = 0
REMEDY = "export the model again"


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of a GGUF file: its shape, its type, and where its bytes are.

    `kind` is the number of its ggml type (a key of BLOCKS), `start` the offset in the file, in
    bytes.
    """

    shape: Shape
    kind: int
    start: int
    nbytes: int


@dataclass(frozen=True)
class Header:
    """The metadata of a GGUF file, and its tensors by name."""

    values: Mapping[str, Any]
    """Metadata by key; instead of a long array only its length n, as range(n)."""
    tensors: Mapping[str, GgufTensor]


def read_header(path: Path) -> Header:
    """Returns the header of a GGUF file.

    Raises UserError for a file that is unreadable, damaged or cut short.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise UserError(f"{path}: not a GGUF file; {REMEDY}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return _Parser(view).header()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from error
    except (struct.error, ValueError) as error:
        raise UserError(f"{path}: damaged or cut short ({one_line(error)}); {REMEDY}") from error


def one_line(value: object) -> str:
    """Returns a value from a file as text, shortened to one line for an error message."""
    return short(" ".join(str(value).split()))


def _once(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Returns a dict of (name, value) pairs. Raises ValueError for a repeated name."""
    unique: dict[str, T] = {}
    for name, value in pairs:
        if name in unique:
            raise ValueError(f"{name} is there twice")
        unique[name] = value
    return unique


class _Parser:
    """Parses the header of a GGUF file that is mapped into memory.

    Raises struct.error or ValueError if the file contradicts itself.
    """

    def __init__(self, view: mmap.mmap) -> None:
        self._view = view
        self._position = len(MAGIC)
        self._distinct = 0  # distinct strings in the last long array

    def header(self) -> Header:
        """Returns the parsed header; tensors' `start` counts from the beginning of the file."""
        version, tensors, values = self._numbers("<IQQ")
        if version != VERSION:
            raise ValueError(f"GGUF version {version}, expected {VERSION}")
        if max(tensors, values) > len(self._view):
            raise ValueError("more entries than bytes")
        metadata = _once(self._entry() for _ in range(values))
        infos = _once(self._tensor() for _ in range(tensors))
        if metadata.get("general.alignment", ALIGNMENT) != ALIGNMENT:
            raise ValueError(f"alignment {metadata['general.alignment']}, expected {ALIGNMENT}")
        data = self._position + -self._position % ALIGNMENT
        tensors_at = {n: replace(info, start=data + info.start) for n, info in infos.items()}
        end = max((info.start + info.nbytes for info in tensors_at.values()), default=data)
        if end > len(self._view):
            raise ValueError(f"{len(self._view)} bytes, but its tensors end at {end}")
        return Header(metadata, tensors_at)

    def _entry(self) -> tuple[str, Any]:
        """Parses the next key and value of the metadata."""
        key = self._string()
        value = self._value()
        if key == TOKENS and isinstance(value, range) and self._distinct != len(value):
            raise ValueError(f"{key} has {len(value) - self._distinct} tokens twice")
        return key, value

    def _tensor(self) -> tuple[str, GgufTensor]:
        """Parses the next tensor's name and description.

        Its `start` still counts from the end of the header.
        """
        name = self._string()
        (axes,) = self._numbers("<I")
        if not 1 <= axes <= MOST_AXES:
            raise ValueError(f"tensor {name} has {axes} axes")
        shape = self._numbers(f"<{axes}Q")[::-1]
        kind, offset = self._numbers("<IQ")
        if kind not in BLOCKS or shape[-1] % BLOCKS[kind][0]:
            raise ValueError(f"tensor {name} of shape {shape} has the unexpected type {kind}")
        if len(shape) == 1 and kind != F32:
            raise ValueError(f"vector {name} has the unexpected type {kind}")
        values, size = BLOCKS[kind]
        return name, GgufTensor(shape, kind, offset, math.prod(shape) // values * size)

    def _value(self) -> Any:
        (kind,) = self._numbers("<I")
        return self._array() if kind == ARRAY else self._single(kind)

    def _array(self) -> list[Any] | range:
        """Parses an array and returns its values.

        A long one is skipped; range(length) is returned instead.
        """
        kind, count = self._numbers("<IQ")
        if count <= SHORT_ARRAY:
            return [self._single(kind) for _ in range(count)]
        if count > len(self._view):
            raise ValueError(f"an array of {count} values")
        if kind != STRING:
            self._skip(count * self._scalar(kind).size)
            return range(count)
        # As llama.cpp reads tokens: up to the first NUL byte; it renames each empty one.
        texts = [self._bytes().partition(b"\0")[0] for _ in range(count)]
        self._distinct = len(set(filter(None, texts))) + texts.count(b"")
        return range(count)

    def _single(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        return self._numbers(self._scalar(kind).format)[0]

    def _scalar(self, kind: int) -> struct.Struct:
        if kind not in SCALARS:
            raise ValueError(f"unknown value type {kind}")
        return SCALARS[kind]

    def _string(self) -> str:
        return self._bytes().decode()

    def _bytes(self) -> bytes:
        (length,) = self._numbers("<Q")
        start = self._position
        self._skip(length)
        return self._view[start : self._position]

    def _numbers(self, layout: str) -> tuple[Any, ...]:
        numbers = struct.unpack_from(layout, self._view, self._position)
        self._position += struct.calcsize(layout)
        return numbers

    def _skip(self, size: int) -> None:
        if size > len(self._view) - self._position:
            raise ValueError(f"{size} bytes wanted at {self._position}")
        self._position += size
