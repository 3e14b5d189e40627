"""Looks into GGUF files before llama.cpp does, because llama.cpp ends the process where it doubts.

Reads headers only, in milliseconds. Format: ggml/docs/gguf.md. NOT aware of llama.cpp's library.
"""

import math
import mmap
import struct
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from export.artifact import Artifact
from export.errors import UserError
from export.files import short
from export.gguf import metadata
from export.gguf.arrange import pieces
from export.images import Tiles
from export.modeling.tensors import Shape
from export.modeling.vlm import Vlm, component

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
T = TypeVar("T")
TOKENS = "tokenizer.ggml.tokens"
STRING, ARRAY = 8, 9
SCALARS: Mapping[int, struct.Struct] = {
    kind: struct.Struct(f"<{code}")
    for kind, code in zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True)
}
MOST_AXES, SHORT_ARRAY = 4, 16

# ggml type -> values and bytes of a block (ggml.h, ggml-common.h): F32, F16, Q4_0, Q4_1, Q5_0,
# Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, IQ4_NL. No artifact has another.
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
EDGES = range(1, 8193)  # pixels; a damaged number must not become an allocation
TEXT, VISION = ("embedding", "decoder"), ("vision",)
REMEDY = "export the model again"


@dataclass(frozen=True)
class Tensor:
    """Where a tensor's bytes are in its file; `kind` is ggml's number of its type."""

    shape: Shape
    kind: int
    start: int
    nbytes: int


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself: values, without long arrays, and its tensors."""

    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class DecoderFile:
    """An artifact's text model, and where in it the token embedding is."""

    path: Path
    table: Tensor


@dataclass(frozen=True)
class Mmproj:
    """An artifact's vision file. `columns`: of the tiles that mtmd cuts an image of the file's
    longest edge into; None where it cuts none."""

    path: Path
    columns: int | None


def checked_decoder(artifact: Artifact) -> DecoderFile:
    """The artifact's text model, complete and of this model.

    Raises UserError for a file that is missing, damaged, cut short or of another model.
    """
    vlm = artifact.manifest.vlm
    facts = metadata.facts_of(vlm)
    texts = _shapes(vlm, TEXT)
    path = artifact.path / artifact.manifest.components["decoder"][0]
    header = _check(
        path, {metadata.ARCHITECTURE: facts.arch, **metadata.decoder(vlm, facts)}, texts
    )
    _expect_vocabulary(header, vlm.text.vocab, path)
    return DecoderFile(path, header.tensors["token_embd.weight"])


def _expect_vocabulary(header: Header, size: int, path: Path) -> None:
    """llama.cpp takes ids from the tokens, and indexes types and scores by them unchecked."""
    for part in ("tokens", "token_type", "scores"):
        key = f"tokenizer.ggml.{part}"
        found = header.values.get(key, () if key == TOKENS else range(size))
        if not isinstance(found, Sized) or len(found) != size:
            entries = len(found) if isinstance(found, Sized) else "no"
            raise UserError(
                f"{path}: {key} has {entries} entries, the model {size} tokens; {REMEDY}"
            )


def checked_mmproj(artifact: Artifact) -> Mmproj:
    """The artifact's vision tower for mtmd. Raises UserError as `checked_decoder` does."""
    manifest, vlm = artifact.manifest, artifact.manifest.vlm
    facts, image = metadata.facts_of(vlm), manifest.image
    assert image is not None, "a model for text alone has no vision file"
    towers = _shapes(vlm, VISION)
    numbers = metadata.vision(vlm, image, facts)
    numbers.pop(metadata.LONGEST_EDGE, None)  # the recipe's may be lowered to have fewer tiles
    path = artifact.path / manifest.components["vision"][0]
    header = _check(path, {metadata.ARCHITECTURE: "clip", **numbers}, towers)
    columns = _columns(header, image, path) if isinstance(image, Tiles) else None
    return Mmproj(path, columns)


def _columns(header: Header, image: Tiles, path: Path) -> int:
    edge = header.values.get(metadata.LONGEST_EDGE)
    if not isinstance(edge, int) or edge % image.tile or edge not in EDGES:
        raise UserError(
            f"{path}: {metadata.LONGEST_EDGE} is {edge}, but llama.cpp cuts only multiples of "
            f"the tile ({image.tile}) up to {EDGES[-1]} as this model does; use --layout "
            f"onnx-vision"
        )
    return edge // image.tile


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
        raise UserError(f"{path}: damaged or cut short ({_line(error)}); {REMEDY}") from error


def _check(path: Path, values: metadata.Metadata, tensors: Mapping[str, Shape]) -> Header:
    header = read_header(path)
    for key, wanted in values.items():
        found = header.values.get(key)
        if not _equal(found, wanted):
            raise UserError(f"{path}: {key} is {_line(found)}, expected {wanted}; {REMEDY}")
    for name in sorted(tensors.keys() | header.tensors.keys()):
        found, expected = header.tensors.get(name), tensors.get(name)
        shape = found.shape if found else None
        if shape != expected:
            raise UserError(
                f"{path}: tensor {_line(name)} is {shape or 'missing'}, expected "
                f"{expected or 'none'}; {REMEDY}"
            )
    return header


def _line(found: object) -> str:
    """What a file says, on one line."""
    return short(" ".join(str(found).split()))


def _equal(found: Any, wanted: metadata.Value) -> bool:
    """Floats are stored with 32 bits."""
    if isinstance(wanted, float | list) and isinstance(found, float | list):
        return np.array_equal(np.asarray(found, np.float32), np.asarray(wanted, np.float32))
    return bool(found == wanted)


def _once(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    found: dict[str, T] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name} is there twice")
        found[name] = value
    return found


class _Parser:
    """Walks a header. Raises struct.error or ValueError where the file contradicts itself."""

    def __init__(self, view: mmap.mmap) -> None:
        self._view = view
        self._position = len(MAGIC)
        self._distinct = 0  # strings of the last long array

    def header(self) -> Header:
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
        placed = {name: replace(info, start=data + info.start) for name, info in infos.items()}
        end = max((info.start + info.nbytes for info in placed.values()), default=data)
        if end > len(self._view):
            raise ValueError(f"{len(self._view)} bytes, but its tensors end at {end}")
        return Header(metadata, placed)

    def _entry(self) -> tuple[str, Any]:
        """A key and its value."""
        key = self._string()
        value = self._value()
        if key == TOKENS and isinstance(value, range) and self._distinct != len(value):
            raise ValueError(f"{key} has {len(value) - self._distinct} tokens twice")
        return key, value

    def _tensor(self) -> tuple[str, Tensor]:
        """Name and facts, the start of its bytes counted from where the header ends."""
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
        return name, Tensor(shape, kind, offset, math.prod(shape) // values * size)

    def _value(self) -> Any:
        (kind,) = self._numbers("<I")
        return self._array() if kind == ARRAY else self._single(kind)

    def _array(self) -> list[Any] | range:
        """The values of a short array; a long one is passed over, only its length is kept."""
        kind, count = self._numbers("<IQ")
        if count <= SHORT_ARRAY:
            return [self._single(kind) for _ in range(count)]
        if count > len(self._view):
            raise ValueError(f"an array of {count} values")
        if kind != STRING:
            self._skip(count * self._scalar(kind).size)
            return range(count)
        # As llama.cpp sees them: up to a zero, and each empty one by a name of its own.
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
