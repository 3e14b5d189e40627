"""Puts the tables of an .ort file that ONNX Runtime writes in random order into a fixed one.

The file is a flatbuffer (onnxruntime/core/flatbuffers/schema/ort.fbs): a version, a model, and for
each operator the types that choose its kernel. ONNX Runtime writes the model first, at the end of
the file, alike everywhere; the table of types before it is in an order of its hash tables, which
differs from process to process. Nothing else reads or changes the model.
"""

import mmap
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from flatbuffers import Builder
from flatbuffers.number_types import Int8Flags, SOffsetTFlags, Uint32Flags
from flatbuffers.table import Table

IDENTIFIER = b"ORTM"
ALIGN = 64
"""Objects of the model stay aligned to this many bytes; a flatbuffer is aligned from its end."""
VERSION, MODEL, TYPES, FIELDS = 0, 1, 3, 4
"""Fields of the root, an InferenceSession, and how many it has; 2 is out of use."""


def reorder(file: Path) -> None:
    """Rewrites an .ort file so that the same model always gives the same bytes."""
    with file.open("rb") as old, mmap.mmap(old.fileno(), 0, access=mmap.ACCESS_READ) as content:
        root = Table(content, int.from_bytes(content[:4], "little"))
        assert not root.Offset(_slot(FIELDS)), "a newer format: the root has more fields"
        model = _target(root, MODEL)
        before = max(0, model.Get(SOffsetTFlags, model.Pos))  # the list of its fields
        start = model.Pos - before
        front = _front(root, len(content) - start, model.Pos - start)
        sorted_ = file.with_name(f"{file.name}.sorted")
        with sorted_.open("wb") as new:
            new.write(front)
            old.seek(start)
            shutil.copyfileobj(old, new)
    sorted_.replace(file)


def _front(root: Table, rest: int, model: int) -> bytes:
    """Returns what precedes the model: root, version and types, in one order.

    `rest`: the bytes from there to the end of the file. `model`: where among them the model's
    table begins.
    """
    builder = Builder()
    version = builder.CreateString(_text(root, VERSION))
    types = _types(builder, _target(root, TYPES))
    builder.StartObject(FIELDS)
    builder.PrependUOffsetTRelativeSlot(VERSION, version, 0)
    builder.PrependUint32Slot(MODEL, 1, 0)  # the offset, set below
    builder.PrependUOffsetTRelativeSlot(TYPES, types, 0)
    builder.Finish(builder.EndObject(), IDENTIFIER)
    front = bytearray(builder.Output())
    made = Table(front, int.from_bytes(front[:4], "little"))
    place = made.Pos + _field(made, MODEL)
    front += bytes(-(len(front) + rest) % ALIGN)
    front[place : place + 4] = (len(front) + model - place).to_bytes(4, "little")
    return bytes(front)


def _types(builder: Builder, types: Table) -> int:
    """Copies a KernelTypeStrResolver: operator -> name of a type -> its inputs and outputs."""
    operators = []
    for operator in _tables(types, 0):
        names = []
        for name in _tables(operator, 1):
            arguments = [_argument(builder, argument) for argument in _tables(name, 1)]
            names.append(_entry(builder, _text(name, 0), arguments))
        operators.append(_entry(builder, _text(operator, 0), names))
    vector = _vector(builder, operators)
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    return int(builder.EndObject())


def _entry(builder: Builder, key: bytes, values: Sequence[int]) -> int:
    name, vector = builder.CreateString(key), _vector(builder, values)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.PrependUOffsetTRelativeSlot(1, vector, 0)
    return int(builder.EndObject())


def _argument(builder: Builder, argument: Table) -> int:
    """Copies an ArgTypeAndIndex: whether it is an input or an output, and which one."""
    builder.StartObject(2)
    builder.PrependInt8Slot(0, argument.GetSlot(_slot(0), 0, Int8Flags), 0)
    builder.PrependUint32Slot(1, argument.GetSlot(_slot(1), 0, Uint32Flags), 0)
    return int(builder.EndObject())


def _vector(builder: Builder, tables: Sequence[int]) -> int:
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())


def _slot(number: int) -> int:
    """Returns where a table's list of fields has the field of this number."""
    return 4 + 2 * number


def _field(table: Table, number: int) -> int:
    offset = table.Offset(_slot(number))
    assert offset, f"field {number} is missing"
    return int(offset)


def _target(table: Table, number: int) -> Table:
    return Table(table.Bytes, table.Indirect(table.Pos + _field(table, number)))


def _tables(table: Table, number: int) -> Iterator[Table]:
    field = _field(table, number)
    first = table.Vector(field)
    for n in range(table.VectorLen(field)):
        yield Table(table.Bytes, table.Indirect(first + 4 * n))


def _text(table: Table, number: int) -> bytes:
    return bytes(table.String(table.Pos + _field(table, number)))
