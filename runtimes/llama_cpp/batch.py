"""Cuts a step into spans that llama.cpp can compute in one call, and fills its batches."""

import ctypes
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as llama

from export.arrays import FloatArray, IntArray
from export.modeling.decoder import Decoder

INT32, FLOAT = ctypes.POINTER(ctypes.c_int32), ctypes.POINTER(ctypes.c_float)
AXES = 4
"""Numbers per position for decoders with `rope_sections`: time, row, column and one that is 0
(mtmd.cpp)."""


@dataclass(frozen=True)
class Span:
    """Neighbouring tokens of one step that llama.cpp can compute in one call, from `spans`.

    They have the indices `start` to `stop` - 1 in the step. `embeddings`: llama.cpp gets embeddings
    instead of token ids. `bidirectional`: they attend to each other in both directions.
    """

    start: int
    stop: int
    embeddings: bool
    """Whether llama.cpp gets embeddings instead of token ids."""
    bidirectional: bool
    """Whether the tokens attend to each other in both directions, instead of causally."""


def spans(
    ids: IntArray,
    features: FloatArray | None,
    image_token_id: int | None,
    past: int,
    text: Decoder,
    joined: bool = False,
) -> list[Span]:
    """Cuts the new `ids` of a step into spans, which llama.cpp computes in one call each, in order.

    `past`: number of positions that are cached before. Without features, all is one span of text.
    Image tokens beyond the rows of `features` count as text. If an image is among the first
    positions that a decoder attends to in both directions (Decoder.prefix), these are one span.
    `joined`: unless images are bidirectional, all positions from the first image token to the last
    are one span of embeddings.
    """
    if features is None:  # every decode step; returning early saves 1 % of its time
        return [Span(0, len(ids), embeddings=False, bidirectional=False)]
    is_row = np.zeros(len(ids), bool)
    is_row[np.flatnonzero(ids == image_token_id)[: len(features)]] = True
    both_ways = is_row.copy() if text.bidirectional_images else np.zeros_like(is_row)
    if joined and not both_ways.any():
        is_row = np.logical_or.accumulate(is_row) & np.logical_or.accumulate(is_row[::-1])[::-1]
    prefix = max(0, text.prefix - past)
    if is_row[:prefix].any():
        is_row[:prefix] = both_ways[:prefix] = True
    kinds = 2 * both_ways + is_row
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(ids)]
    return [Span(a, b, bool(is_row[a]), bool(both_ways[a])) for a, b in pairwise(edges)]


class Batch:
    """A llama_batch of up to `size` positions, over buffers that are allocated once.

    `axes`: numbers per position of an embedding, AXES or 1. A token id always has one, its time.
    """

    def __init__(self, size: int, axes: int) -> None:
        self.size = size
        self._axes = axes
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(axes * size, np.int32)
        self._outputs = np.zeros(size, np.int8)
        self._counts = np.ones(size, np.int32)  # sequences that each position belongs to: one, …
        self._sequence_ids = np.zeros(size, np.int32)  # … this one
        offsets = self._sequence_ids.itemsize * np.arange(size, dtype=np.uintp)
        self._pointers = self._sequence_ids.ctypes.data + offsets
        self._rows: FloatArray | None = None
        self._c = _empty_batch()
        self._c.pos = self._positions.ctypes.data_as(INT32)
        self._c.n_seq_id = self._counts.ctypes.data_as(INT32)
        self._c.seq_id = self._pointers.ctypes.data_as(ctypes.POINTER(INT32))
        self._c.logits = self._outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        self._token = self._tokens.ctypes.data_as(INT32)

    def fill(
        self,
        inputs: IntArray | FloatArray,
        positions: IntArray,
        outputs: bool | IntArray,
        sequences: int | IntArray = 0,
    ) -> Any:
        """Fills the batch with ids [n] or embeddings [n, hidden] at positions [3, n]; returns it.

        `outputs`: whether logits of the last position are computed, or 0 or 1 for each position
        [n]. `sequences`: the number of the sequence that all positions belong to, or one for each
        position [n]. The result is a C struct over this object's buffers, valid until the next
        call.
        """
        count = len(inputs)
        self._c.n_tokens = count
        self._sequence_ids[:count] = sequences
        self._outputs[:count] = 0
        if isinstance(outputs, bool):
            self._outputs[count - 1] = outputs
        else:
            self._outputs[:count] = outputs
        if inputs.ndim == 1:
            self._positions[:count] = positions[0]
            self._tokens[:count] = inputs
            self._c.token, self._c.embd = self._token, None
            return self._c
        axes = min(self._axes, len(positions))
        self._positions[: axes * count] = positions[:axes].ravel()
        self._positions[axes * count : self._axes * count] = 0
        self._rows = np.ascontiguousarray(inputs, np.float32)  # llama.cpp reads it later
        self._c.token, self._c.embd = None, self._rows.ctypes.data_as(FLOAT)
        return self._c


def _empty_batch() -> Any:
    """Returns an empty llama_batch, typed as Any: the bindings annotate its pointers as arrays."""
    return llama.llama_batch()
