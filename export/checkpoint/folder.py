"""Reads the weights of a Hugging Face checkpoint folder by canonical (GGUF) tensor names."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from export.arrays import FloatArray
from export.checkpoint import check
from export.checkpoint.safetensors import Stored, equal, expect_readable, open_folder, read_rows
from export.digests import remembered
from export.errors import UserError
from export.families.spec import Family, Source, Transform
from export.files import short
from export.modeling.tensors import Shape
from export.modeling.vlm import Vlm, shapes
from export.origin import Origin


def _add_one(values: FloatArray) -> FloatArray:
    values += 1
    return values


def _transpose(values: FloatArray) -> FloatArray:
    return np.ascontiguousarray(values.T)


TRANSFORMS: Mapping[Transform, Callable[[FloatArray], FloatArray]] = {
    "add_one": _add_one,
    "transpose": _transpose,
}


def values(
    source: Source,
    shape: Shape,
    read: Callable[[str, int, int | None], FloatArray],
    start: int = 0,
    stop: int | None = None,
) -> FloatArray:
    """Returns rows [start, stop) of a model tensor of this `shape`, converted as `source` says.

    `read(name, start, stop)` returns rows of a tensor of the checkpoint. Raises UserError if the
    product with a row_scale exceeds float32.
    """
    if source.transform == "transpose" or source.stored is not None:  # other rows are stored
        whole = _transformed(source, read(source.name, 0, None))
        return whole.reshape(shape)[start:stop]
    first, last, _ = slice(start, stop).indices(shape[0])
    last = max(first, last)
    before = source.part[0] * shape[0]
    rows = _transformed(source, read(source.name, before + first, before + last))
    if source.row_scale is None:
        return rows
    scale = read(source.row_scale, first, last)
    with np.errstate(over="ignore"):
        rows = rows * scale.reshape(-1, *(1,) * (rows.ndim - 1))
    if not np.isfinite(rows).all():
        raise UserError(
            f"{short(source.name)} times {short(source.row_scale)} exceeds float32; check the "
            f"checkpoint"
        )
    return rows


def _transformed(source: Source, values: FloatArray) -> FloatArray:
    return values if source.transform is None else TRANSFORMS[source.transform](values)


def _without_tied_head(
    stored: Mapping[str, Stored], family: Family, vlm: Vlm, folder: Path
) -> Mapping[str, Stored]:
    """Leaves out the output head of a tied model, which some programs save beside the embedding.

    One that is saved instead of the embedding gets the embedding's name. Raises UserError if both
    are there and differ: transformers then does not tie them.
    """
    if not vlm.text.tied:
        return stored
    untied = replace(vlm, text=replace(vlm.text, tied=False))
    head = family.sources(untied)["output.weight"].name
    embedding = family.sources(vlm)["token_embd.weight"].name
    if head not in stored:
        return stored
    others = {name: place for name, place in stored.items() if name != head}
    if embedding not in stored:
        return {embedding: stored[head], **others}
    if not equal(embedding, stored[embedding], head, stored[head]):
        raise UserError(
            f"{folder}: {short(head)} differs from {short(embedding)}, but config.json has "
            f"tie_word_embeddings true; set it to false there to keep both, or leave the head out"
        )
    return others


class Checkpoint:
    """The weights of a model in a checkpoint folder, read by GGUF's tensor names.

    `known` is what is known of their origin: hub id and commit, and the configuration files that
    were read. The property `origin` adds the weight files, which it reads once (export/digests.py).
    Raises UserError for a damaged file, and for a tensor that is missing, left over or of another
    shape than the configuration says.
    """

    synthetic = False

    def __init__(
        self, folder: Path, family: Family, vlm: Vlm, known: Origin = MappingProxyType({})
    ) -> None:
        self._shapes = shapes(vlm)
        self._sources = family.sources(vlm)
        stored = check.renamed(open_folder(folder), family.prefixes, str(folder))
        self._stored = _without_tied_head(stored, family, vlm, folder)
        self._known_origin = known
        found = {name: stored.shape for name, stored in self._stored.items()}
        check.tensors(self._shapes, self._sources, found, family.ignored, str(folder))
        for source in self._sources.values():
            for name in source.names:
                expect_readable(name, self._stored[name])

    @cached_property
    def origin(self) -> Origin:
        """Identifies the model: "files": name -> bytes and SHA-256; "hub" and "revision" if known.

        The files are those of the weights and of the configuration.
        """
        found = remembered().of(sorted({stored.path for stored in self._stored.values()}))
        weights = {
            path.name: {"bytes": path.stat().st_size, "sha256": sha256}
            for path, sha256 in found.items()
        }
        return {**self._known_origin, "files": {**self._known_origin.get("files", {}), **weights}}

    def shapes(self) -> Mapping[str, Shape]:
        """Returns name -> shape of every weight tensor; the names are GGUF's."""
        return self._shapes

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        """Reads rows [start, stop) of a tensor from its file, as float32; stop None: to the end."""
        return values(self._sources[name], self._shapes[name], self._rows, start, stop)

    def _rows(self, stored: str, start: int, stop: int | None) -> FloatArray:
        return read_rows(stored, self._stored[stored], start, stop)
