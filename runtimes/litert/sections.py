"""Reads the .tflite models that a .litertlm file holds."""

import io
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from litert_lm_builder import litertlm_header_schema_py_generated as schema
from litert_lm_builder import litertlm_peek as peek

from export.errors import UserError

PREFIX = "tf_lite_"


def tflite_models(path: Path) -> Mapping[str, bytes]:
    """Returns the .tflite models of a bundle by the runner's names, such as prefill_decode.

    Raises UserError for a file that is no bundle, or not a whole one.
    """
    try:
        header = peek.read_litertlm_header(str(path), io.StringIO())
        places = dict(_places(header))
    except (ValueError, TypeError, IndexError, struct.error) as error:
        raise UserError(f"{path}: is not a bundle of LiteRT-LM's; export it again") from error
    if any(end > path.stat().st_size for _, end in places.values()):
        raise UserError(f"{path}: is cut off; export it again")
    with path.open("rb") as file:
        return {name: _read(file, *place) for name, place in places.items()}


def _places(header: Any) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yields the name of each .tflite model, and where in the file it begins and ends."""
    table = header.SectionMetadata()
    for section in (table.Objects(i) for i in range(table.ObjectsLength())):
        if section.DataType() == schema.AnySectionDataType.TFLiteModel:
            name = str(peek.get_model_type(section)).removeprefix(PREFIX)
            yield name, (section.BeginOffset(), section.EndOffset())


def _read(file: Any, begin: int, end: int) -> bytes:
    file.seek(begin)
    data: bytes = file.read(end - begin)
    return data
