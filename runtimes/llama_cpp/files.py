"""Checks the GGUF files of an artifact against its manifest before llama.cpp opens them."""

from collections.abc import Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.arrays import FloatArray, IntArray
from export.artifact import Artifact
from export.errors import UserError
from export.gguf import metadata
from export.gguf.arrange import pieces
from export.images import Tiles
from export.modeling.tensors import Shape
from export.modeling.vlm import Vlm, component
from runtimes.llama_cpp.header import REMEDY, TOKENS, GgufTensor, Header, one_line, read_header

EDGES = range(1, 8193)  # pixels; a damaged number must not become an allocation
TEXT, VISION = ("embedding", "decoder"), ("vision",)


@dataclass(frozen=True)
class DecoderFile:
    """A checked GGUF file with an artifact's text model; `table` locates its token embeddings."""

    path: Path
    table: GgufTensor

    def embeddings(self, ids: IntArray) -> FloatArray:
        """Reads the embeddings [n, hidden] of tokens from the file, without llama.cpp.

        llama.cpp does not return embeddings, but a prompt's text needs them if it is computed in
        the same span as an image (Span.embeddings). Only the rows of `ids` are read. They are not
        scaled by Decoder.embedding_scale.
        """
        from gguf import GGMLQuantizationType, quants

        rows = self.table.shape[0]
        shape = (rows, self.table.nbytes // rows)
        stored = np.memmap(self.path, np.uint8, "r", self.table.start, shape)[ids]
        kind = GGMLQuantizationType(self.table.kind)
        values: FloatArray = quants.dequantize(stored, kind).astype(np.float32)
        return values


@dataclass(frozen=True)
class MmprojFile:
    """A checked GGUF file with an artifact's vision tower, for llama.cpp's mtmd library.

    `columns`: how many tiles are side by side if mtmd cuts an image that is as wide as the longest
    edge in the file; None if mtmd does not cut this model's images.
    """

    path: Path
    columns: int | None


def checked_decoder(artifact: Artifact) -> DecoderFile:
    """Checks the file of the artifact's text model against the manifest, and returns it.

    Raises UserError for a file that is missing, damaged, cut short or of another model than the
    manifest's.
    """
    vlm = artifact.manifest.vlm
    facts = metadata.facts_of(vlm)
    path = artifact.file("decoder")
    values = {metadata.ARCHITECTURE: facts.arch, **metadata.decoder(vlm, facts)}
    header = _checked(path, values, _shapes(vlm, TEXT))
    _check_vocabulary(header, vlm.text.vocab, path)
    return DecoderFile(path, header.tensors["token_embd.weight"])


def checked_mmproj(artifact: Artifact) -> MmprojFile:
    """Checks the file of the artifact's vision tower (for mtmd) against the manifest; returns it.

    Raises UserError as `checked_decoder` does.
    """
    manifest, vlm = artifact.manifest, artifact.manifest.vlm
    facts, image = metadata.facts_of(vlm), manifest.image
    assert image is not None, "a model for text alone has no vision file"
    values = metadata.vision(vlm, image, facts)
    values.pop(metadata.LONGEST_EDGE, None)  # a budget of tiles lowers the recipe's, not the file's
    path = artifact.file("vision")
    header = _checked(path, {metadata.ARCHITECTURE: "clip", **values}, _shapes(vlm, VISION))
    columns = _columns(header, image, path) if isinstance(image, Tiles) else None
    return MmprojFile(path, columns)


def _check_vocabulary(header: Header, size: int, path: Path) -> None:
    """Raises UserError if the tokenizer's lists in the file do not have an entry for each token.

    llama.cpp indexes token types and scores by id without checking their lengths.
    """
    for part in ("tokens", "token_type", "scores"):
        key = f"tokenizer.ggml.{part}"
        value = header.values.get(key, () if key == TOKENS else range(size))
        if not isinstance(value, Sized) or len(value) != size:
            entries = len(value) if isinstance(value, Sized) else "no"
            raise UserError(
                f"{path}: {key} has {entries} entries, the model {size} tokens; {REMEDY}"
            )


def _columns(header: Header, image: Tiles, path: Path) -> int:
    """Returns how many tiles side by side mtmd cuts from an image of the file's longest edge.

    Raises UserError if it would cut images in another way than the model's recipe.
    """
    edge = header.values.get(metadata.LONGEST_EDGE)
    if not isinstance(edge, int) or edge % image.tile or edge not in EDGES:
        raise UserError(
            f"{path}: {metadata.LONGEST_EDGE} is {edge}, but llama.cpp cuts only multiples of "
            f"the tile ({image.tile}) up to {EDGES[-1]} as this model does; use --layout "
            f"onnx-vision"
        )
    return edge // image.tile


def _shapes(vlm: Vlm, components: tuple[str, ...]) -> Mapping[str, Shape]:
    """Returns names and shapes of the tensors in a file that holds these components."""
    arranged = pieces(vlm, metadata.facts_of(vlm)).items()
    return {
        piece.name: piece.shape
        for name, parts in arranged
        if component(name) in components
        for piece in parts
    }


def _checked(path: Path, values: metadata.Metadata, tensors: Mapping[str, Shape]) -> Header:
    """Returns the file's header; raises UserError for other values or tensors than expected."""
    header = read_header(path)
    for key, expected in values.items():
        value = header.values.get(key)
        if not _equal(value, expected):
            raise UserError(f"{path}: {key} is {one_line(value)}, expected {expected}; {REMEDY}")
    for name in sorted(tensors.keys() | header.tensors.keys()):
        tensor, wanted = header.tensors.get(name), tensors.get(name)
        shape = tensor.shape if tensor else None
        if shape != wanted:
            raise UserError(
                f"{path}: tensor {one_line(name)} is {shape or 'missing'}, expected "
                f"{wanted or 'none'}; {REMEDY}"
            )
    return header


def _equal(value: Any, expected: metadata.Value) -> bool:
    """Returns whether a value of the file equals the expected one.

    Compares floats as float32, as the file stores them.
    """
    if isinstance(expected, float | list) and isinstance(value, float | list):
        return np.array_equal(np.asarray(value, np.float32), np.asarray(expected, np.float32))
    return bool(value == expected)
