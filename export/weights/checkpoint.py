"""Weights of a Hugging Face checkpoint folder. NOT aware of how its tensors are used."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from export import check
from export.families.spec import Family, Shape, Transform, Vlm
from export.files import sha256_of
from export.shapes import shapes
from export.weights import FloatArray
from export.weights.safetensors import open_folder, read_rows


def _add_one(values: FloatArray) -> FloatArray:
    values += 1
    return values


def _transpose(values: FloatArray) -> FloatArray:
    return np.ascontiguousarray(values.T)


TRANSFORMS: Mapping[Transform, Callable[[FloatArray], FloatArray]] = {
    "": lambda values: values,
    "add_one": _add_one,
    "transpose": _transpose,
}


def _within(rows: tuple[int, int] | None, part: slice) -> tuple[int, int | None]:
    """Where the rows of a part of these rows start and stop in the checkpoint's tensor."""
    if rows is None:
        return part.start, part.stop
    first, last, _ = part.indices(rows[1] - rows[0])
    return rows[0] + first, rows[0] + max(first, last)


class Checkpoint:
    """The canonical tensors of a folder, checked against its numbers when it is opened.

    `origin` is what identifies the values, where that is known (hub id and revision); else it is
    the SHA-256 of the weight files, computed when it is asked for: about a second a gigabyte.
    Raises UserError where files are not sound or tensors and numbers do not fit, both ways.
    """

    synthetic = False

    def __init__(
        self, folder: Path, family: Family, vlm: Vlm, origin: Mapping[str, Any] | None = None
    ) -> None:
        self._shapes = shapes(vlm)
        self._sources = family.sources(vlm)
        self._stored = check.spelled(open_folder(folder), family.spellings, str(folder))
        self._known_origin = origin
        found = {name: stored.shape for name, stored in self._stored.items()}
        check.tensors(self._shapes, self._sources, found, family.ignored, str(folder))

    @cached_property
    def origin(self) -> Mapping[str, Any]:
        """Hub id and revision, or {"files": {name: {"bytes", "sha256"}}}."""
        if self._known_origin is not None:
            return self._known_origin
        paths = sorted({stored.path for stored in self._stored.values()})
        return {
            "files": {
                path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
                for path in paths
            }
        }

    def shapes(self) -> Mapping[str, Shape]:
        """Every canonical tensor."""
        return self._shapes

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        """Rows [start, stop) of a canonical tensor as float32, read from the file now."""
        source, transform = check.source_of(self._sources, name), self._sources[name].transform
        start, stop = _within(self._sources[name].rows, slice(start, stop))
        if transform == "transpose":  # its rows are columns there
            return TRANSFORMS[transform](read_rows(source, self._stored[source]))[start:stop]
        return TRANSFORMS[transform](read_rows(source, self._stored[source], start, stop))
