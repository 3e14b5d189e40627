"""Looks into GGUF files before llama.cpp does, because llama.cpp ends the process where it doubts.

Reads headers only, in milliseconds. Format: ggml/docs/gguf.md. NOT aware of llama.cpp's library.
"""

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.artifact import Artifact
from export.errors import UserError
from export.families.spec import Shape, Tiles, Vlm
from export.gguf import metadata
from export.gguf.arrange import pieces
from export.shapes import component

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
STRING, ARRAY = 8, 9
SCALARS: Mapping[int, struct.Struct] = {
    kind: struct.Struct(f"<{code}")
    for kind, code in zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True)
}
MOST_AXES, SHORT_ARRAY = 4, 16

# ggml type -> values and bytes of a block (ggml.h, ggml-common.h): F32, F16, Q4_0, Q8_0.
BLOCKS: Mapping[int, tuple[int, int]] = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34)}
EDGES = range(1, 8193)  # pixels; a damaged number must not become an allocation
TEXT, VISION = ("embedding", "decoder"), ("vision",)
REMEDY = "export the model again"


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself: values, without long arrays, and its tensors' shapes."""

    values: Mapping[str, Any]
    tensors: Mapping[str, Shape]


@dataclass(frozen=True)
class Mmproj:
    """An artifact's vision file, and the longest edge (pixels) that mtmd scales images to."""

    path: Path
    tiles: Tiles
    longest_edge: int


def checked_decoder(artifact: Artifact) -> Path:
    """The artifact's text model, complete and of this model.

    Raises UserError for a file that is missing, damaged, cut short or of another model.
    """
    vlm = artifact.manifest.vlm
    facts = metadata.facts_of(vlm)
    texts = _shapes(vlm, TEXT)
    path = artifact.path / artifact.manifest.components["decoder"][0]
    _check(path, {metadata.ARCHITECTURE: facts.arch, **metadata.decoder(vlm, facts)}, texts)
    return path


def checked_mmproj(artifact: Artifact) -> Mmproj:
    """The artifact's vision tower for mtmd. Raises UserError as `checked_decoder` does."""
    manifest, vlm = artifact.manifest, artifact.manifest.vlm
    facts, tiles = metadata.facts_of(vlm), metadata.tiles_of(vlm, manifest.image)
    towers = _shapes(vlm, VISION)
    numbers = metadata.vision(vlm, tiles, facts)
    del numbers[metadata.LONGEST_EDGE]  # the recipe's may be lowered to have fewer tiles
    path = artifact.path / manifest.components["vision"][0]
    header = _check(path, {metadata.ARCHITECTURE: "clip", **numbers}, towers)
    edge = header.values.get(metadata.LONGEST_EDGE)
    if not isinstance(edge, int) or edge % tiles.tile or edge not in EDGES:
        raise UserError(
            f"{path}: {metadata.LONGEST_EDGE} is {edge}, but llama.cpp cuts only multiples of "
            f"the tile ({tiles.tile}) up to {EDGES[-1]} as this model does; use --layout "
            f"onnx-vision"
        )
    return Mmproj(path, tiles, edge)


def _shapes(vlm: Vlm, components: tuple[str, ...]) -> Mapping[str, Shape]:
    """The tensors of a file that holds these components."""
    made = pieces(vlm, metadata.facts_of(vlm)).items()
    return {p.name: p.shape for name, own in made if component(name) in components for p in own}


def read_header(path: Path) -> Header:
    """Metadata and tensors of a GGUF file that is as long as they say. Raises UserError if not."""
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise UserError(f"{path}: not a GGUF file; {REMEDY}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return _Parser(view).header()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from error
    except (struct.error, ValueError) as error:
        raise UserError(f"{path}: damaged or cut short ({error}); {REMEDY}") from error


def _check(path: Path, values: metadata.Metadata, tensors: Mapping[str, Shape]) -> Header:
    header = read_header(path)
    for key, wanted in values.items():
        found = header.values.get(key)
        if not _equal(found, wanted):
            raise UserError(f"{path}: {key} is {found}, expected {wanted}; {REMEDY}")
    for name in sorted(tensors.keys() | header.tensors.keys()):
        shape, expected = header.tensors.get(name), tensors.get(name)
        if shape != expected:
            raise UserError(
                f"{path}: tensor {name} is {shape or 'missing'}, expected {expected or 'none'}; "
                f"{REMEDY}"
            )
    return header


def _equal(found: Any, wanted: metadata.Value) -> bool:
    """Floats are stored with 32 bits."""
    if isinstance(wanted, float | list) and isinstance(found, float | list):
        return np.array_equal(np.asarray(found, np.float32), np.asarray(wanted, np.float32))
    return bool(found == wanted)


class _Parser:
    """Walks a header. Raises struct.error or ValueError where the file contradicts itself."""

    def __init__(self, view: mmap.mmap) -> None:
        self._view = view
        self._position = len(MAGIC)

    def header(self) -> Header:
        version, tensors, values = self._numbers("<IQQ")
        if version != VERSION:
            raise ValueError(f"GGUF version {version}, expected {VERSION}")
        if max(tensors, values) > len(self._view):
            raise ValueError("more entries than bytes")
        metadata = dict((self._string(), self._value()) for _ in range(values))
        infos = [self._tensor() for _ in range(tensors)]
        if metadata.get("general.alignment", ALIGNMENT) != ALIGNMENT:
            raise ValueError(f"alignment {metadata['general.alignment']}, expected {ALIGNMENT}")
        data = self._position + -self._position % ALIGNMENT
        end = data + max((end for _, _, end in infos), default=0)
        if end > len(self._view):
            raise ValueError(f"{len(self._view)} bytes, but its tensors end at {end}")
        return Header(metadata, {name: shape for name, shape, _ in infos})

    def _tensor(self) -> tuple[str, Shape, int]:
        """Name, shape (rows first) and the end of its bytes behind the header."""
        name = self._string()
        (axes,) = self._numbers("<I")
        if not 1 <= axes <= MOST_AXES:
            raise ValueError(f"tensor {name} has {axes} axes")
        shape = self._numbers(f"<{axes}Q")[::-1]
        kind, offset = self._numbers("<IQ")
        if kind not in BLOCKS or shape[-1] % BLOCKS[kind][0]:
            raise ValueError(f"tensor {name} of shape {shape} has the unexpected type {kind}")
        values, size = BLOCKS[kind]
        return name, shape, offset + math.prod(shape) // values * size

    def _value(self) -> Any:
        (kind,) = self._numbers("<I")
        return self._array() if kind == ARRAY else self._single(kind)

    def _array(self) -> list[Any] | None:
        """The values of a short array; a long one is passed over."""
        kind, count = self._numbers("<IQ")
        if count <= SHORT_ARRAY:
            return [self._single(kind) for _ in range(count)]
        if count > len(self._view):
            raise ValueError(f"an array of {count} values")
        if kind != STRING:
            self._skip(count * self._scalar(kind).size)
        else:
            for _ in range(count):
                self._skip(self._numbers("<Q")[0])
        return None

    def _single(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        return self._numbers(self._scalar(kind).format)[0]

    def _scalar(self, kind: int) -> struct.Struct:
        if kind not in SCALARS:
            raise ValueError(f"unknown value type {kind}")
        return SCALARS[kind]

    def _string(self) -> str:
        (length,) = self._numbers("<Q")
        start = self._position
        self._skip(length)
        return self._view[start : self._position].decode()

    def _numbers(self, layout: str) -> tuple[Any, ...]:
        numbers = struct.unpack_from(layout, self._view, self._position)
        self._position += struct.calcsize(layout)
        return numbers

    def _skip(self, size: int) -> None:
        if size > len(self._view) - self._position:
            raise ValueError(f"{size} bytes wanted at {self._position}")
        self._position += size
