"""The text model of a GGUF artifact over llama.cpp's C functions: one answer, or several in step.

NOT aware of images (it takes their features as rows), prompts or clocks.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as llama

from export.errors import UserError
from export.modeling.vlm import Vlm
from runtimes.base import FloatArray, IntArray
from runtimes.devices import CPU, Device
from runtimes.llama_cpp.batch import AXES, Batch, Span, spans
from runtimes.llama_cpp.devices import model_settings
from runtimes.llama_cpp.files import DecoderFile
from runtimes.llama_cpp.log import complaints, silence
from runtimes.llama_cpp.rows import TokenRows
from runtimes.llama_cpp.state import StateTap
from runtimes.nvidia import expect_memory
from runtimes.session.loop import Extend
from runtimes.session.positions import of_text

LOADING = "while the model was loaded"
BATCH, MICRO_BATCH = 2048, 512  # positions handed over, and computed at once: llama.cpp's defaults
NO_ROOM = 1  # as llama_decode says it
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
        self._context: Any = None
        self._memory: Any = None
        self._length = 0
        self._sequences: dict[int, int] = {}  # of answers in step: by their numbers
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
        self._settings = settings
        if not self._opened(sequences=1):
            self.close()
            raise UserError(
                f"{file.path}: no memory for a context of {context}; ask for a smaller one"
            )
        self._vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
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

        See runtimes.session.loop.Backend.
        """
        if positions is None or self._text.rope_sections is None:
            positions = of_text(past, len(ids))
        if self._sequences:  # of answers in step, which have ended
            self._clear()
        self._forget(past, int(positions[0, 0]))
        return self._extended(ids, features, past, positions)

    def extend_each(self, steps: dict[int, Extend], common: int) -> dict[int, FloatArray]:
        """See BatchBackend; raises UserError where the cache has no room for all.

        A common beginning is cached once, for all of them. The first time, the context is opened
        anew, with room for the logits of so many.
        """
        if next(iter(steps.values())).past == 0:
            steps = self._begun(steps, common if common >= self._text.prefix else 0)
            if any(step.features is not None for step in steps.values()):
                return {n: self._beside(n, step) for n, step in steps.items()}
        return dict(zip(steps, self._texts(steps), strict=True))

    def _begun(self, steps: dict[int, Extend], common: int) -> dict[int, Extend]:
        """What is left of the prompts when their common beginning is cached."""
        if len(steps) > self._settings.n_seq_max and not self._opened(len(steps)):
            if not self._opened(sequences=1):
                raise RuntimeError("llama.cpp has no memory for its context any more")
            raise UserError(f"no memory for {len(steps)} answers at once; ask fewer at once")
        self._clear()
        self._sequences = {number: place for place, number in enumerate(steps)}
        if not common:
            return steps
        ids, features, _, positions = next(iter(steps.values()))
        self._extended(ids[:common], features, 0, self._where(0, positions)[:, :common])
        for sequence in range(1, len(steps)):
            llama.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)
        image = self._vlm.image_token_id
        return {number: step.behind(common, image) for number, step in steps.items()}

    def _beside(self, number: int, step: Extend) -> FloatArray:
        """A prompt's last logits, of one of the sequences."""
        where = self._where(step.past, step.positions)
        sequence = self._sequences[number]
        return self._extended(step.ids, step.features, step.past, where, sequence).copy()

    def _texts(self, steps: dict[int, Extend]) -> list[FloatArray]:
        """The last logits of each sequence's text."""
        own = [*steps.values()]
        counts = [len(step.ids) for step in own]
        ids = np.concatenate([step.ids for step in own])
        where = np.concatenate([self._where(s.past, s.positions) for s in own], axis=1)
        sequences = np.repeat([self._sequences[number] for number in steps], counts)
        ends = np.zeros(len(ids), np.int64)
        ends[np.cumsum(counts) - 1] = 1
        found = []
        for start in range(0, len(ids), self._batch.size):
            part = slice(start, start + self._batch.size)
            self._decode(self._batch.filled(ids[part], where[:, part], ends[part], sequences[part]))
            found += [self._logits(place).copy() for place in np.flatnonzero(ends[part]).tolist()]
        return found

    def close(self) -> None:
        """Free the context and the model."""
        if self._context:
            llama.llama_free(self._context)
        if self.model:
            llama.llama_model_free(self.model)
        self._context = self.model = None

    def _opened(self, sequences: int) -> bool:
        """Open the context, or open it anew, for so many answers in step; False: no memory."""
        if self._context:
            llama.llama_free(self._context)
        self._settings.n_seq_max = self._settings.n_outputs_max = sequences
        self._context = llama.llama_init_from_model(self.model, self._settings)
        if not self._context:
            return False
        self._memory = llama.llama_get_memory(self._context)
        self._length, self._sequences = 0, {}
        return True

    def _clear(self) -> None:
        llama.llama_memory_clear(self._memory, False)
        self._length, self._sequences = 0, {}

    def _where(self, past: int, positions: IntArray) -> IntArray:
        """Positions [3, n] behind the first `past` ones, as the decoder counts them."""
        return positions if self._text.rope_sections else of_text(past, positions.shape[1])

    def _extended(
        self,
        ids: IntArray,
        features: FloatArray | None,
        past: int,
        positions: IntArray,
        sequence: int = 0,
    ) -> FloatArray:
        """As `extend`, of a sequence whose cache ends there."""
        used = 0
        image, joined = self._vlm.image_token_id, self.joins_tiles
        for span in spans(ids, features, image, past, self._text, joined):
            inputs: IntArray | FloatArray = ids[span.start : span.stop]
            if span.rows:
                assert features is not None
                inputs, used = self._rows(ids[span.start : span.stop], features, used)
            where = positions[:, span.start : span.stop]
            self._append(span, inputs, where, len(ids), sequence)
        return self._logits()

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
        self,
        span: Span,
        inputs: IntArray | FloatArray,
        where: IntArray,
        length: int,
        sequence: int,
    ) -> None:
        """A span's token ids [n] or embeddings [n, hidden] at `where` [3, n]."""
        if span.together:
            llama.llama_set_causal_attn(self._context, False)
        for start in range(0, len(inputs), self._batch.size):
            part = slice(start, start + self._batch.size)
            ends = span.stop == length and part.stop >= len(inputs)
            self._decode(self._batch.filled(inputs[part], where[:, part], ends, sequence))
        if span.together:
            llama.llama_set_causal_attn(self._context, True)

    def _decode(self, batch: Any) -> None:
        status = llama.llama_decode(self._context, batch)
        if status == NO_ROOM and self._sequences:
            raise UserError(
                f"no room for {len(self._sequences)} answers at once in a context of "
                f"{self._settings.n_ctx}; ask fewer at once"
            )
        if status:
            raise RuntimeError(
                f"llama_decode returned {status} at position {self._length}: {complaints()}"
            )
        self._length += batch.n_tokens

    def _logits(self, place: int = -1) -> FloatArray:
        """Behind a position of the last batch."""
        found = llama.llama_get_logits_ith(self._context, place)
        return np.ctypeslib.as_array(found, (self._vocab,))


def _together(vlm: Vlm) -> int:
    """The most positions that see each other: llama.cpp computes them at once or ends the process
    (GGML_ASSERT in llama_context::decode)."""
    if vlm.vision is None or not vlm.text.bidirectional_images:
        return vlm.text.prefix
    return max(vlm.text.prefix, vlm.vision.tokens_per_tile)


def _context_settings(threads: int, context: int, cache_bits: int, batch: int) -> Any:
    settings = llama.llama_context_default_params()
    settings.n_ctx = context
    settings.n_batch, settings.n_ubatch = batch, min(MICRO_BATCH, batch)
    settings.kv_unified = True  # sequences share a beginning; of one alone it is the same
    settings.n_threads = settings.n_threads_batch = threads
    settings.type_k = settings.type_v = CACHE_TYPES[cache_bits]
    if cache_bits == 32:
        settings.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.no_perf = True
    return settings
