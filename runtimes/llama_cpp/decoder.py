"""Runs the text model of a GGUF artifact through llama.cpp's C functions."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as llama

from export.arrays import FloatArray, IntArray
from export.errors import UserError
from export.modeling.vlm import Vlm
from runtimes.devices import CPU, Device
from runtimes.llama_cpp.batch import AXES, Batch, Span, spans
from runtimes.llama_cpp.devices import model_settings
from runtimes.llama_cpp.files import DecoderFile
from runtimes.llama_cpp.log import complaints, silence
from runtimes.llama_cpp.state import StateTap
from runtimes.nvidia import raise_if_out_of_memory
from runtimes.session.backend import Extend
from runtimes.session.positions import text_positions

LOADING = "while the model was loaded"
BATCH, MICRO_BATCH = 2048, 512  # positions per llama_decode, and computed at once: the defaults
CACHE_FULL = 1  # status of llama_decode
CACHE_TYPES: Mapping[int, int] = {16: llama.GGML_TYPE_F16, 32: llama.GGML_TYPE_F32}


class LlamaDecoder:
    """A loaded text model with a key-value cache of `context` positions.

    `cache_bits`: bits of each cached number. 16, with flash attention, is llama.cpp's default. 32
    turns flash attention off, because its kernels round keys, values and queries to float16:
    slower, but exact.
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
        """`batch`: the most positions per llama_decode. Raises UserError if llama.cpp cannot load
        the file or allocate the cache."""
        silence()
        self._vlm, self._text, self._file = vlm, vlm.text, file
        self._tap = StateTap(vlm.text) if vlm.region else None
        # A span is one call, which takes milliseconds on a GPU. On a CPU joined spans save little
        # time, and reading the embeddings of the text between tiles takes 5 MB of memory.
        self.joins_tiles = device != CPU
        self._context: Any = None
        self._memory: Any = None
        self._length = 0  # cached positions, of all sequences
        self._sequences: dict[int, int] = {}  # number in extend_each -> llama.cpp's sequence id
        self.model = llama.llama_model_load_from_file(
            os.fsencode(file.path), model_settings(device)
        )
        if not self.model:
            raise_if_out_of_memory(complaints(), LOADING)
            raise UserError(f"{file.path}: llama.cpp cannot load it; export the model again")
        settings = _context_settings(threads, context, cache_bits, min(batch, context))
        settings.n_ubatch = min(context, max(settings.n_ubatch, _longest_bidirectional_span(vlm)))
        settings.n_batch = max(settings.n_batch, settings.n_ubatch)
        if self._tap:
            settings.cb_eval = self._tap.callback
        self._settings = settings
        if not self._open_context(sequences=1):
            self.close()
            raise UserError(
                f"{file.path}: no memory for a context of {context}; ask for a smaller one"
            )
        self._vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self._batch = Batch(settings.n_batch, AXES if self._text.rope_sections else 1)

    @property
    def state(self) -> FloatArray:
        """Returns the decoder's state [hidden] before the output norm at the last position.

        Only for models with region heads, which read it.
        """
        assert self._tap is not None, "only models with region heads have a tap"
        return self._tap.state

    def extend(self, step: Extend) -> FloatArray:
        """Runs the decoder on a step's tokens; returns the last one's logits [vocab] (Backend)."""
        if self._sequences:  # a batch came before
            self._clear()
        positions = self._own_positions(step)
        self._truncate(step.past, int(positions[0, 0]))
        return self._append(step, positions)

    def extend_each(self, steps: dict[int, Extend], common: int) -> dict[int, FloatArray]:
        """Runs the decoder on a step per sequence; returns each one's last logits (BatchBackend).

        The first `common` positions of all prompts are cached once. Raises UserError if the cache
        or the memory is too small for so many sequences.
        """
        if next(iter(steps.values())).past == 0:
            steps = self._start(steps, common if common >= self._text.prefix else 0)
            if any(step.features is not None for step in steps.values()):
                return {number: self._prefill(number, step) for number, step in steps.items()}
        return dict(zip(steps, self._extend_with_text(steps), strict=True))

    def use_threads(self, threads: int) -> None:
        """Computes with so many threads from the next call on; the cache stays."""
        self._settings.n_threads = self._settings.n_threads_batch = threads
        llama.llama_set_n_threads(self._context, threads, threads)

    def close(self) -> None:
        """Frees the model and its cache."""
        if self._context:
            llama.llama_free(self._context)
        if self.model:
            llama.llama_model_free(self.model)
        self._context = self.model = None

    def _start(self, steps: dict[int, Extend], common: int) -> dict[int, Extend]:
        """Starts new sequences and caches their common start; returns the rest of each prompt.

        `steps`: number of the sequence -> its whole prompt. `common`: positions that all start
        with.
        """
        if len(steps) > self._settings.n_seq_max and not self._open_context(len(steps)):
            if not self._open_context(sequences=1):
                raise RuntimeError("llama.cpp has no memory for its context any more")
            raise UserError(f"no memory for {len(steps)} answers at once; ask fewer at once")
        self._clear()
        self._sequences = {number: sequence for sequence, number in enumerate(steps)}
        if not common:
            return steps
        whole = next(iter(steps.values()))
        prefix = Extend(whole.ids[:common], whole.features, 0, whole.positions[:, :common])
        self._append(prefix, self._own_positions(prefix))
        for sequence in range(1, len(steps)):
            llama.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)
        image = self._vlm.image_token_id
        return {number: step.after_prefix(common, image) for number, step in steps.items()}

    def _prefill(self, number: int, step: Extend) -> FloatArray:
        """Appends a prompt with images to one sequence; returns its last logits [vocab]."""
        return self._append(step, self._own_positions(step), self._sequences[number]).copy()

    def _extend_with_text(self, steps: dict[int, Extend]) -> list[FloatArray]:
        """Appends text to each sequence in shared batches; returns each one's last logits."""
        parts = [*steps.values()]
        counts = [len(step.ids) for step in parts]
        ids = np.concatenate([step.ids for step in parts])
        positions = np.concatenate([self._own_positions(step) for step in parts], axis=1)
        sequences = np.repeat([self._sequences[number] for number in steps], counts)
        ends = np.zeros(len(ids), np.int64)
        ends[np.cumsum(counts) - 1] = 1
        logits = []
        for start in range(0, len(ids), self._batch.size):
            part = slice(start, start + self._batch.size)
            self._decode(
                self._batch.fill(ids[part], positions[:, part], ends[part], sequences[part])
            )
            logits += [self._logits(index).copy() for index in np.flatnonzero(ends[part]).tolist()]
        return logits

    def _open_context(self, sequences: int) -> bool:
        """Opens llama.cpp's context for some number of sequences, replacing an open one.

        Returns False if there is no memory for it. Its buffers hold one position's logits per
        sequence.
        """
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
        """Empties the cache and ends all sequences."""
        llama.llama_memory_clear(self._memory, False)
        self._length, self._sequences = 0, {}

    def _truncate(self, past: int, position: int) -> None:
        """Keeps the first `past` cached positions; `position` is the time of the next one."""
        if past < self._length and not llama.llama_memory_seq_rm(self._memory, 0, position, -1):
            raise RuntimeError(f"llama.cpp cannot remove cached positions from {position} on")
        self._length = past

    def _own_positions(self, step: Extend) -> IntArray:
        """Returns a step's positions [3, n] as this decoder counts them.

        Without `rope_sections` they count all tokens, those of images too, on all axes.
        """
        if self._text.rope_sections:
            return step.positions
        return text_positions(step.past, len(step.ids))

    def _append(self, step: Extend, positions: IntArray, sequence: int = 0) -> FloatArray:
        """Appends a step to a sequence that has `step.past` positions; returns the last logits.

        The logits [vocab] are valid until the next call.
        """
        used = 0
        image, joined = self._vlm.image_token_id, self.joins_tiles
        for span in spans(step.ids, step.features, image, step.past, self._text, joined):
            inputs: IntArray | FloatArray = step.ids[span.start : span.stop]
            if span.embeddings:
                assert step.features is not None
                inputs, used = self._embeddings(
                    step.ids[span.start : span.stop], step.features, used
                )
            self._append_span(
                span, inputs, positions[:, span.start : span.stop], len(step.ids), sequence
            )
        return self._logits()

    def _embeddings(self, ids: IntArray, features: FloatArray, used: int) -> tuple[FloatArray, int]:
        """Returns embeddings [n, hidden] for the ids [n] of a span, and the next value of `used`.

        Image tokens get the next rows of `features`, of which the first `used` went to earlier
        spans.
        """
        is_image = ids == self._vlm.image_token_id
        images = features[used : used + np.count_nonzero(is_image)]
        if is_image.all():
            return images, used + len(images)
        rows = np.empty((len(ids), features.shape[1]), np.float32)
        rows[is_image] = images
        rows[~is_image] = self._file.embeddings(ids[~is_image])
        rows[~is_image] *= np.float32(self._text.embedding_scale)
        return rows, used + len(images)

    def _append_span(
        self,
        span: Span,
        inputs: IntArray | FloatArray,
        positions: IntArray,
        length: int,
        sequence: int,
    ) -> None:
        """Decodes a span's ids [n] or embeddings [n, hidden] at positions [3, n].

        `length`: tokens of the whole step. Logits are computed if the span is the step's last.
        """
        if span.bidirectional:
            llama.llama_set_causal_attn(self._context, False)
        for start in range(0, len(inputs), self._batch.size):
            part = slice(start, start + self._batch.size)
            is_last = span.stop == length and part.stop >= len(inputs)
            self._decode(self._batch.fill(inputs[part], positions[:, part], is_last, sequence))
        if span.bidirectional:
            llama.llama_set_causal_attn(self._context, True)

    def _decode(self, batch: Any) -> None:
        """Computes a filled llama_batch.

        Raises UserError if the cache is full in a batch of sequences, RuntimeError for other
        failures.
        """
        status = llama.llama_decode(self._context, batch)
        if status == CACHE_FULL and self._sequences:
            raise UserError(
                f"no room for {len(self._sequences)} answers at once in a context of "
                f"{self._settings.n_ctx}; ask fewer at once"
            )
        if status:
            raise RuntimeError(
                f"llama_decode returned {status} at position {self._length}: {complaints()}"
            )
        self._length += batch.n_tokens

    def _logits(self, index: int = -1) -> FloatArray:
        """Returns the logits [vocab] at an index of the last batch, valid until the next batch."""
        pointer = llama.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, (self._vocab,))


def _longest_bidirectional_span(vlm: Vlm) -> int:
    """Returns the largest number of positions that attend to each other in both directions.

    llama.cpp must compute them in one micro-batch: otherwise it aborts the process (GGML_ASSERT in
    llama_context::decode).
    """
    if vlm.vision is None or not vlm.text.bidirectional_images:
        return vlm.text.prefix
    return max(vlm.text.prefix, vlm.vision.tokens_per_tile)


def _context_settings(threads: int, context: int, cache_bits: int, batch: int) -> Any:
    """Returns llama.cpp's settings for a context (llama_context_params)."""
    settings = llama.llama_context_default_params()
    settings.n_ctx = context
    settings.n_batch, settings.n_ubatch = batch, min(MICRO_BATCH, batch)
    settings.kv_unified = True  # lets sequences share a prefix; changes nothing for a single one
    settings.n_threads = settings.n_threads_batch = threads
    settings.type_k = settings.type_v = CACHE_TYPES[cache_bits]
    if cache_bits == 32:
        settings.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.no_perf = True
    return settings
