"""How a prompt's positions are handed to llama.cpp: in spans that are computed alike.

NOT aware of models' files, contexts or caches.
"""

import ctypes
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as llama

from export.modeling.decoder import Decoder
from runtimes.base import FloatArray, IntArray

INT32, FLOAT = ctypes.POINTER(ctypes.c_int32), ctypes.POINTER(ctypes.c_float)
AXES = 4
"""Of a position with `rope_sections`: time, row, column, and one that is always 0 (mtmd.cpp)."""


@dataclass(frozen=True)
class Span:
    """Neighbouring positions [start, stop). `rows`: they enter as embeddings, not as token ids;
    `together`: they see each other, later ones too."""

    start: int
    stop: int
    rows: bool
    together: bool


def spans(
    ids: IntArray,
    features: FloatArray | None,
    image_token_id: int | None,
    past: int,
    text: Decoder,
    joined: bool = False,
) -> list[Span]:
    """The spans of new `ids` after the first `past` positions; without features all is text.

    Image tokens beyond the features are an answer's own. With a `prefix` (Decoder.prefix) the first
    positions, text among them, are one span. `joined`: so are all from the first image's to the
    last one's, where images see no later position.
    """
    if features is None:  # every decode step: said at once, which spares it 1 % of its time
        return [Span(0, len(ids), rows=False, together=False)]
    is_row = np.zeros(len(ids), bool)
    is_row[np.flatnonzero(ids == image_token_id)[: len(features)]] = True
    together = is_row.copy() if text.bidirectional_images else np.zeros_like(is_row)
    if joined and not together.any():
        is_row = np.logical_or.accumulate(is_row) & np.logical_or.accumulate(is_row[::-1])[::-1]
    prefix = max(0, text.prefix - past)
    if is_row[:prefix].any():
        is_row[:prefix] = together[:prefix] = True
    kinds = 2 * together + is_row
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(ids)]
    return [Span(a, b, bool(is_row[a]), bool(together[a])) for a, b in pairwise(edges)]


class Batch:
    """One llama_batch over buffers that are allocated once and refilled.

    axes: numbers of an embedding's position, AXES or 1; a token's is always its first.
    """

    def __init__(self, size: int, axes: int) -> None:
        self.size = size
        self._axes = axes
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(axes * size, np.int32)
        self._wanted = np.zeros(size, np.int8)
        self._counts = np.ones(size, np.int32)  # each position belongs to one sequence, …
        self._numbers = np.zeros(size, np.int32)  # … with this number
        places = np.arange(size, dtype=np.uintp)
        self._sequences = self._numbers.ctypes.data + self._numbers.itemsize * places
        self._rows: FloatArray | None = None
        self._c = _empty_batch()
        self._c.pos = self._positions.ctypes.data_as(INT32)
        self._c.n_seq_id = self._counts.ctypes.data_as(INT32)
        self._c.seq_id = self._sequences.ctypes.data_as(ctypes.POINTER(INT32))
        self._c.logits = self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        self._token = self._tokens.ctypes.data_as(INT32)

    def filled(
        self,
        inputs: IntArray | FloatArray,
        where: IntArray,
        wanted: bool | IntArray,
        sequences: int | IntArray = 0,
    ) -> Any:
        """The batch with ids [n] or rows [n, hidden] at positions [3, n], of one sequence or of one
        each [n]; `wanted` asks for logits: the last one's, or those of some [n]."""
        count = len(inputs)
        self._c.n_tokens = count
        self._numbers[:count] = sequences
        self._wanted[:count] = 0
        if isinstance(wanted, bool):
            self._wanted[count - 1] = wanted
        else:
            self._wanted[:count] = wanted
        if inputs.ndim == 1:
            self._positions[:count] = where[0]
            self._tokens[:count] = inputs
            self._c.token, self._c.embd = self._token, None
            return self._c
        axes = min(self._axes, len(where))
        self._positions[: axes * count] = where[:axes].ravel()
        self._positions[axes * count : self._axes * count] = 0
        self._rows = np.ascontiguousarray(inputs, np.float32)  # held while it is decoded
        self._c.token, self._c.embd = None, self._rows.ctypes.data_as(FLOAT)
        return self._c


def _empty_batch() -> Any:
    """Untyped: the bindings annotate a batch's pointers as arrays."""
    return llama.llama_batch()
