"""The text model of a GGUF artifact over llama.cpp's C functions, one sequence at a time.

NOT aware of images (it takes their features as rows), prompts or clocks.
"""

import ctypes
import functools
import logging
import os
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as llama
from llama_cpp import mtmd_cpp as mtmd
from numpy.typing import NDArray

from export.errors import UserError
from runtimes.base import FloatArray, IntArray

LOG = logging.getLogger(__name__)
BATCH, MICRO_BATCH = 2048, 512  # positions handed over, and computed at once: llama.cpp's defaults
INT32, FLOAT = ctypes.POINTER(ctypes.c_int32), ctypes.POINTER(ctypes.c_float)
CACHE_TYPES: Mapping[int, int] = {16: llama.GGML_TYPE_F16, 32: llama.GGML_TYPE_F32}

Run = tuple[int, int, bool]
"""Positions [start, stop) and whether they are image tokens."""


class LlamaDecoder:
    """A loaded text model with a key-value cache of `context` positions.

    `cache_bits` 16 with flash attention is llama.cpp's default; 32 does without both, because the
    flash attention kernels round keys, values and queries to float16: slower, exact.
    """

    def __init__(
        self,
        path: Path,
        threads: int,
        context: int,
        *,
        cache_bits: int = 16,
        batch: int = BATCH,
    ) -> None:
        """Raises UserError where llama.cpp cannot load the file or allocate the cache."""
        _silence()
        self._context = None
        self.model = llama.llama_model_load_from_file(os.fsencode(path), _model_settings())
        if not self.model:
            raise UserError(f"{path}: llama.cpp cannot load it; export the model again")
        settings = _context_settings(threads, context, cache_bits, min(batch, context))
        self._context = llama.llama_init_from_model(self.model, settings)
        if not self._context:
            self.close()
            raise UserError(f"{path}: no memory for a context of {context}; ask for a smaller one")
        self._memory = llama.llama_get_memory(self._context)
        self._vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self._length = 0
        self._batch = _Batch(min(batch, context))

    def extend(
        self, ids: IntArray, features: FloatArray | None, image_token_id: int | None, past: int
    ) -> FloatArray:
        """Append positions after the first `past` ones; the last one's logits [vocab], copied."""
        if past < self._length and not llama.llama_memory_seq_rm(self._memory, 0, past, -1):
            raise RuntimeError(f"llama.cpp cannot forget positions from {past} on")
        self._length = past
        used = 0
        for start, stop, is_image in runs(ids, features, image_token_id):
            last = stop == len(ids)
            if is_image:
                assert features is not None
                self._append(features[used : used + stop - start], last)
                used += stop - start
            else:
                self._append(ids[start:stop], last)
        return self._logits()

    def close(self) -> None:
        """Free the context and the model."""
        if self._context:
            llama.llama_free(self._context)
        if self.model:
            llama.llama_model_free(self.model)
        self._context = self.model = None

    def _append(self, inputs: IntArray | FloatArray, last: bool) -> None:
        """Token ids [n] or embeddings [n, hidden] at the next positions."""
        for start in range(0, len(inputs), self._batch.size):
            part = inputs[start : start + self._batch.size]
            ends = last and start + len(part) == len(inputs)
            status = llama.llama_decode(self._context, self._batch.filled(part, self._length, ends))
            if status:
                raise RuntimeError(f"llama_decode returned {status} at position {self._length}")
            self._length += len(part)

    def _logits(self) -> FloatArray:
        found = llama.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(found, (self._vocab,)).copy()


class _Batch:
    """One llama_batch over buffers that are allocated once and refilled."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._tokens = np.zeros(size, np.int32)
        self._positions = np.zeros(size, np.int32)
        self._wanted = np.zeros(size, np.int8)
        self._counts = np.ones(size, np.int32)  # each position belongs to one sequence, …
        self._sequence = np.zeros(1, np.int32)  # … which is number 0
        self._sequences = np.full(size, self._sequence.ctypes.data, np.uintp)
        self._rows: FloatArray | None = None
        self._c = _empty_batch()
        self._c.pos = self._positions.ctypes.data_as(INT32)
        self._c.n_seq_id = self._counts.ctypes.data_as(INT32)
        self._c.seq_id = self._sequences.ctypes.data_as(ctypes.POINTER(INT32))
        self._c.logits = self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        self._token = self._tokens.ctypes.data_as(INT32)

    def filled(self, inputs: NDArray[Any], position: int, ends: bool) -> Any:
        """The batch with ids or rows from `position` on; `ends` asks for the last one's logits."""
        count = len(inputs)
        self._c.n_tokens = count
        self._positions[:count] = np.arange(position, position + count)
        self._wanted[:count] = 0
        self._wanted[count - 1] = ends
        if inputs.ndim == 1:
            self._tokens[:count] = inputs
            self._c.token, self._c.embd = self._token, None
        else:
            self._rows = np.ascontiguousarray(inputs, np.float32)  # held while it is decoded
            self._c.token, self._c.embd = None, self._rows.ctypes.data_as(FLOAT)
        return self._c


def _empty_batch() -> Any:
    """Untyped: the bindings annotate a batch's pointers as arrays."""
    return llama.llama_batch()


def runs(ids: IntArray, features: FloatArray | None, image_token_id: int | None) -> Iterator[Run]:
    """Runs of text and of image tokens in order; without features everything is text."""
    if features is None:
        yield 0, len(ids), False
        return
    is_image = ids == image_token_id
    edges = [0, *(np.flatnonzero(np.diff(is_image)) + 1).tolist(), len(ids)]
    for start, stop in pairwise(edges):
        yield start, stop, bool(is_image[start])


def _model_settings() -> Any:
    settings = llama.llama_model_default_params()
    settings.n_gpu_layers = 0
    return settings


def _context_settings(threads: int, context: int, cache_bits: int, batch: int) -> Any:
    settings = llama.llama_context_default_params()
    settings.n_ctx = context
    settings.n_batch, settings.n_ubatch = batch, min(MICRO_BATCH, batch)
    settings.n_outputs_max = 1  # only the last position's logits are ever asked for
    settings.n_threads = settings.n_threads_batch = threads
    settings.type_k = settings.type_v = CACHE_TYPES[cache_bits]
    if cache_bits == 32:
        settings.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.no_perf = True
    return settings


def _write_log(level: int, text: bytes, _: Any) -> None:
    LOG.debug("%s", text.decode(errors="replace").rstrip())


_log = llama.llama_log_callback(_write_log)  # held: llama.cpp keeps only its address


@functools.cache
def _silence() -> None:
    """Once a process: llama.cpp and mtmd write to this module's debug log instead of stderr."""
    llama.llama_log_set(_log, ctypes.c_void_p())
    mtmd.mtmd_log_set(_log, ctypes.c_void_p())
    mtmd.mtmd_helper_log_set(_log, ctypes.c_void_p())
    llama.llama_backend_init()
