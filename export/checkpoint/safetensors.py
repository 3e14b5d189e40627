"""Reads tensors from safetensors files, rows at a time, as float32.

The safetensors library maps files into memory. Mapped pages count as memory of the process, but an
export is to need the memory of a few tensors only; so this is a reader of our own.
Format: https://github.com/huggingface/safetensors#format.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.arrays import FloatArray
from export.checkpoint.unused import MERGE
from export.errors import UserError
from export.files import few, inside, parse_json, read_json, short
from export.modeling.tensors import Shape

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")

HEADER_LIMIT_BYTES = 100_000_000  # as in the reference implementation
AXES_LIMIT = 8
BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
READABLE: Mapping[str, str] = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
CHUNK_VALUES = 1 << 18


@dataclass(frozen=True)
class Stored:
    """Where a tensor is in a safetensors file, and its type and shape.

    offset: position of its first byte from the start of the file. dtype: the format's name ("F32").
    """

    path: Path
    dtype: str
    shape: Shape
    offset: int

    @property
    def row_values(self) -> int:
        """How many values one row has (one index of the first axis)."""
        return math.prod(self.shape[1:])


def open_folder(folder: Path) -> dict[str, Stored]:
    """Finds all tensors of a checkpoint folder: name -> place in a file. Reads no values.

    Raises UserError for missing or damaged files.
    """
    if inside(folder, WEIGHTS).is_file():
        return read_header(folder / WEIGHTS)
    if inside(folder, INDEX).is_file():
        return _read_shards(folder)
    raise _no_weights(folder)


def expect_readable(name: str, stored: Stored) -> None:
    """Raises UserError if a tensor is stored in a type other than F32, F16 and BF16."""
    if stored.dtype not in READABLE:
        raise UserError(
            f"{stored.path}: {short(name)} is stored as {stored.dtype}, but only "
            f"{', '.join(READABLE)} are read; save the checkpoint without quantization"
        )


def read_rows(name: str, stored: Stored, start: int = 0, stop: int | None = None) -> FloatArray:
    """Reads rows [start, stop) of a tensor as float32; stop None: to the end.

    `name` is for errors. Raises UserError for NaN, infinity and a file that cannot be read.
    """
    first, last, _ = slice(start, stop).indices(stored.shape[0])
    out = np.empty((max(0, last - first), *stored.shape[1:]), np.float32)
    item = np.dtype(READABLE[stored.dtype]).itemsize
    try:
        with stored.path.open("rb", buffering=0) as file:
            file.seek(stored.offset + first * stored.row_values * item)
            _fill(out.reshape(-1), file.readinto, stored.dtype)
    except (OSError, EOFError) as error:
        raise UserError(
            f"{stored.path}: {short(name)} cannot be read ({error}); fetch the file again"
        ) from None
    if out.size and not (np.isfinite(out.min()) and np.isfinite(out.max())):
        raise UserError(
            f"{stored.path}: {short(name)} has values that are not finite; take a checkpoint "
            f"from before training diverged"
        )
    return out


def equal(name: str, stored: Stored, other: str, stored_other: Stored) -> bool:
    """Whether two tensors have the same shape and values; reads a few rows of both at a time.

    The names are for errors. Raises UserError as `expect_readable` and `read_rows` do.
    """
    if stored.shape != stored_other.shape:
        return False
    expect_readable(name, stored)
    expect_readable(other, stored_other)
    rows = max(1, CHUNK_VALUES // max(1, stored.row_values))
    return all(
        np.array_equal(
            read_rows(name, stored, start, start + rows),
            read_rows(other, stored_other, start, start + rows),
        )
        for start in range(0, stored.shape[0], rows)
    )


def read_header(path: Path) -> dict[str, Stored]:
    """Finds all tensors of one safetensors file: name -> place in it. Reads no values.

    Raises UserError for a damaged file.
    """
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size_bytes < 8 or length > min(size_bytes - 8, HEADER_LIMIT_BYTES):
                raise _unsound(path, f"header of {length} bytes in a file of {size_bytes}")
            header = parse_json(file.read(length), f"{path} (header)")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    header.pop("__metadata__", None)
    spans = {name: _entry(path, name, entry) for name, entry in header.items()}
    _expect_gapless(path, spans, size_bytes - 8 - length)
    return {
        name: Stored(path, dtype, shape, 8 + length + begin)
        for name, (dtype, shape, begin, _) in spans.items()
    }


_Span = tuple[str, Shape, int, int]


def _entry(path: Path, name: str, entry: Any) -> _Span:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise _unsound(path, f"{short(name)} is described by {short(json.dumps(entry))}")
    if dtype not in BITS:
        raise _unsound(path, f"{short(name)} has the unknown dtype {short(dtype)!r}")
    if len(shape) > AXES_LIMIT or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
        raise _unsound(path, f"{short(name)} has the shape {short(str(shape))}")
    if (end - begin) * 8 != math.prod(shape) * BITS[dtype]:
        raise _unsound(
            path, f"{short(name)} has {end - begin} bytes, which is not {shape} of {dtype}"
        )
    return dtype, tuple(shape), begin, end


def _expect_gapless(path: Path, spans: Mapping[str, _Span], data_bytes: int) -> None:
    """Raises UserError if tensors overlap or leave a gap in the file's `data_bytes`.

    `spans` has the type, shape, first byte and end of each tensor.
    """
    position = 0
    for name, (_, _, begin, end) in sorted(spans.items(), key=lambda item: item[1][2:]):
        if begin != position:
            before = begin < position
            kind = "overlaps the tensor before it" if before else "leaves a gap before it"
            raise _unsound(path, f"{short(name)} {kind} (byte {begin}, expected {position})")
        position = end
    if position != data_bytes:
        kind = "is cut short" if data_bytes < position else "has surplus bytes at its end"
        raise _unsound(path, f"it {kind} ({data_bytes} bytes of data, expected {position})")


def _read_shards(folder: Path) -> dict[str, Stored]:
    index = folder / INDEX
    weight_map = read_json(folder, INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise UserError(
            f"{index}: expected an object 'weight_map' with a file for each tensor; take the file "
            f"from the checkpoint"
        )
    shards = sorted(set(weight_map.values()))
    if missing := [shard for shard in shards if not inside(folder, shard).is_file()]:
        raise UserError(f"{index}: {few(missing)} is not there; fetch the checkpoint again")
    found: dict[str, Stored] = {}
    for shard in shards:
        tensors = read_header(folder / shard)
        # A name that no file has is no fault: some programs list a tied head, which is not saved.
        if unclear := sorted(name for name in tensors if weight_map.get(name) != shard):
            raise UserError(
                f"{index}: does not agree with {shard} about {few(unclear)}; take all files "
                f"from the same checkpoint"
            )
        found |= tensors
    return found


def _fill(out: FloatArray, readinto: Any, dtype: str) -> None:
    """Reads `out.size` values of the type `dtype` into `out`, converted chunk by chunk."""
    if dtype == "F32":
        _read_exactly(readinto, out.view(np.uint8).data)
        return
    raw = np.empty(min(CHUNK_VALUES, out.size), READABLE[dtype])
    for start in range(0, out.size, CHUNK_VALUES):
        part = out[start : start + CHUNK_VALUES]
        values = raw[: part.size]
        _read_exactly(readinto, values.view(np.uint8).data)
        if dtype == "BF16":  # the upper half of a float32
            np.left_shift(values, 16, out=part.view(np.uint32), dtype=np.uint32)
        else:
            part[:] = values


def _read_exactly(readinto: Any, view: memoryview) -> None:
    done = 0
    while done < len(view):
        count = readinto(view[done:])
        if not count:
            raise EOFError("the file ends too early")
        done += count


def _no_weights(folder: Path) -> UserError:
    names = sorted(os.listdir(folder))
    if pickled := [name for name in names if name.endswith(PICKLED)]:
        return UserError(
            f"{folder}: has only {few(pickled)}; such checkpoints are not read, because loading "
            f"one may run code; load it where you trust it and call "
            f"save_pretrained(…, safe_serialization=True)"
        )
    if adapter := [name for name in names if name.startswith("adapter_")]:
        return UserError(f"{folder}: has only {few(adapter)}, not the model's weights; {MERGE}")
    return UserError(
        f"{folder}: has neither {WEIGHTS} nor {INDEX}; expected a folder written by save_pretrained"
    )


def _unsound(path: Path, finding: str) -> UserError:
    return UserError(f"{path}: is a damaged safetensors file: {finding}; fetch or save it again")
