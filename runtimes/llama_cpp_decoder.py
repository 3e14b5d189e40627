"""The text model of a GGUF artifact over llama.cpp's C functions, one sequence at a time.

NOT aware of images (it takes their features as rows), prompts or clocks.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as llama

from export.errors import UserError
from export.families.geometry import Vlm
from runtimes.base import FloatArray, IntArray
from runtimes.devices import CPU, Device
from runtimes.llama_cpp_batch import AXES, Batch, Span, spans
from runtimes.llama_cpp_devices import model_settings
from runtimes.llama_cpp_files import DecoderFile
from runtimes.llama_cpp_log import complaints, silence
from runtimes.llama_cpp_rows import TokenRows
from runtimes.llama_cpp_state import StateTap
from runtimes.nvidia import expect_memory
from runtimes.positions import of_text

LOADING = "while the model was loaded"
BATCH, MICRO_BATCH = 2048, 512  # positions handed over, and computed at once: llama.cpp's defaults
CACHE_TYPES: Mapping[int, int] = {16: llama.GGML_TYPE_F16, 32: llama.GGML_TYPE_F32}


class LlamaDecoder:
    """A loaded text model with a key-value cache of `context` positions.

    `cache_bits` 16 with flash attention is llama.cpp's default; 32 does without both, because the
    flash attention kernels round keys, values and queries to float16: slower, exact.
    """

    def __init__(
        self,
        file: DecoderFile,
        vlm: Vlm,
        threads: int,
        context: int,
        *,
        cache_bits: int = 16,
        batch: int = BATCH,
        device: Device = CPU,
    ) -> None:
        """Raises UserError where llama.cpp cannot load the file or allocate the cache."""
        silence()
        self._vlm, self._text = vlm, vlm.text
        self._table = TokenRows(file, vlm.text.embedding_scale)
        self._tap = StateTap(vlm.text) if vlm.region else None
        # Each span is a call of some milliseconds on a GPU; on a CPU what reads rows of text takes
        # more memory (5 MB) than time is won.
        self.joins_tiles = device != CPU
        self._context = None
        self.model = llama.llama_model_load_from_file(
            os.fsencode(file.path), model_settings(device)
        )
        if not self.model:
            expect_memory(complaints(), LOADING)
            raise UserError(f"{file.path}: llama.cpp cannot load it; export the model again")
        settings = _context_settings(threads, context, cache_bits, min(batch, context))
        settings.n_ubatch = min(context, max(settings.n_ubatch, _together(vlm)))
        settings.n_batch = max(settings.n_batch, settings.n_ubatch)
        if self._tap:
            settings.cb_eval = self._tap.callback
        self._context = llama.llama_init_from_model(self.model, settings)
        if not self._context:
            self.close()
            raise UserError(
                f"{file.path}: no memory for a context of {context}; ask for a smaller one"
            )
        self._memory = llama.llama_get_memory(self._context)
        self._vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self._length = 0
        self._batch = Batch(settings.n_batch, AXES if self._text.rope_sections else 1)

    @property
    def state(self) -> FloatArray:
        """What the output norm read at the last position of the last `extend`: [hidden]."""
        assert self._tap is not None, "only models with region heads are asked"
        return self._tap.state

    def extend(
        self,
        ids: IntArray,
        features: FloatArray | None,
        past: int,
        positions: IntArray | None = None,
    ) -> FloatArray:
        """Append positions after the first `past` ones; the last one's logits [vocab], which
        the next call overwrites.

        See runtimes.session.Backend.
        """
        if positions is None or self._text.rope_sections is None:
            positions = of_text(past, len(ids))
        self._forget(past, int(positions[0, 0]))
        used = 0
        image, joined = self._vlm.image_token_id, self.joins_tiles
        for span in spans(ids, features, image, past, self._text, joined):
            inputs: IntArray | FloatArray = ids[span.start : span.stop]
            if span.rows:
                assert features is not None
                inputs, used = self._rows(ids[span.start : span.stop], features, used)
            self._append(span, inputs, positions[:, span.start : span.stop], len(ids))
        return self._logits()

    def close(self) -> None:
        """Free the context and the model."""
        if self._context:
            llama.llama_free(self._context)
        if self.model:
            llama.llama_model_free(self.model)
        self._context = self.model = None

    def _forget(self, past: int, position: int) -> None:
        """Keep the first `past` cached positions; the next one is at `position`."""
        if past < self._length and not llama.llama_memory_seq_rm(self._memory, 0, position, -1):
            raise RuntimeError(f"llama.cpp cannot forget positions from {position} on")
        self._length = past

    def _rows(self, ids: IntArray, features: FloatArray, used: int) -> tuple[FloatArray, int]:
        """Embeddings [n, hidden] of a span, of whose features `used` are taken already."""
        is_image = ids == self._vlm.image_token_id
        own = features[used : used + np.count_nonzero(is_image)]
        if is_image.all():
            return own, used + len(own)
        rows = np.empty((len(ids), features.shape[1]), np.float32)
        rows[is_image], rows[~is_image] = own, self._table.rows(ids[~is_image])
        return rows, used + len(own)

    def _append(
        self, span: Span, inputs: IntArray | FloatArray, where: IntArray, length: int
    ) -> None:
        """A span's token ids [n] or embeddings [n, hidden] at `where` [3, n]."""
        if span.together:
            llama.llama_set_causal_attn(self._context, False)
        for start in range(0, len(inputs), self._batch.size):
            part = slice(start, start + self._batch.size)
            ends = span.stop == length and part.stop >= len(inputs)
            batch = self._batch.filled(inputs[part], where[:, part], ends)
            status = llama.llama_decode(self._context, batch)
            if status:
                raise RuntimeError(
                    f"llama_decode returned {status} at position {self._length}: {complaints()}"
                )
            self._length += batch.n_tokens
        if span.together:
            llama.llama_set_causal_attn(self._context, True)

    def _logits(self) -> FloatArray:
        found = llama.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(found, (self._vocab,))


def _together(vlm: Vlm) -> int:
    """The most positions that see each other: llama.cpp computes them at once or ends the process
    (GGML_ASSERT in llama_context::decode)."""
    bidirectional = vlm.vision is not None and vlm.text.image_attention == "bidirectional"
    return max(vlm.text.prefix, vlm.tokens_per_tile if bidirectional else 0)


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
