"""Baseline: a bare loop of llama_decode, as in llama-bench's pp (prefill) and tg (decode) tests.

For comparison with the llama_cpp runtime on the same file. Text only. Logits are not copied out of
llama.cpp, so answers must be forced.
"""

import ctypes
import os
from pathlib import Path

import numpy as np
from llama_cpp import llama_cpp as llama

from export.arrays import FloatArray
from export.artifact import Artifact
from export.errors import UserError
from runtimes.base import Session
from runtimes.devices import CPU, Device, device_of
from runtimes.llama_cpp.devices import model_settings
from runtimes.llama_cpp.files import checked_decoder
from runtimes.llama_cpp.log import complaints, silence
from runtimes.nvidia import raise_if_out_of_memory
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.backend import Backend, Extend
from runtimes.session.loop import GreedySession

CONTEXT = 2048


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> Session:
    """Loads the text model of a GGUF artifact and returns a session that only times answers.

    Requests must give the answer's token ids: nothing is chosen, as its logits are 0."""
    backend = open_backend(artifact, threads, device_of(device))
    return GreedySession(backend, preparer_of(artifact), ())


def open_backend(artifact: Artifact, threads: int, device: Device = CPU) -> Backend:
    """Loads the text model of a GGUF artifact; returns a backend that only calls llama_decode."""
    path = checked_decoder(artifact).path
    return BareBackend(path, threads, artifact.manifest.vlm.text.vocab, device)


class BareBackend:
    """A Backend whose `extend` is one llama_decode; takes no images and returns logits of 0."""

    def __init__(self, path: Path, threads: int, vocab: int, device: Device) -> None:
        silence()
        self._model = llama.llama_model_load_from_file(os.fsencode(path), model_settings(device))
        if not self._model:
            raise_if_out_of_memory(complaints(), "while the model was loaded")
            raise UserError(f"{path}: llama.cpp cannot load it; export the model again")
        settings = llama.llama_context_default_params()
        settings.n_ctx = CONTEXT
        settings.n_threads = settings.n_threads_batch = threads
        self._context = llama.llama_init_from_model(self._model, settings)
        if not self._context:
            raise UserError(f"{path}: no memory for a context of {CONTEXT}")
        self._memory = llama.llama_get_memory(self._context)
        self._no_logits = np.zeros(vocab, np.float32)
        self.context = CONTEXT

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Raises UserError: this baseline takes no images."""
        raise UserError("llama_bench only runs text; ask for --prompt text")

    def extend(self, step: Extend) -> FloatArray:
        """Runs the decoder on a step's tokens; returns zeros [vocab] instead of logits."""
        if step.past == 0:
            llama.llama_memory_clear(self._memory, False)  # as llama-bench does
        count = len(step.ids)
        tokens = (ctypes.c_int32 * count)(*step.ids.tolist())
        if llama.llama_decode(self._context, llama.llama_batch_get_one(tokens, count)):
            raise RuntimeError(f"llama_decode failed at position {step.past}")
        llama.llama_synchronize(self._context)
        return self._no_logits

    def close(self) -> None:
        """Frees the model and its cache."""
        llama.llama_free(self._context)
        llama.llama_model_free(self._model)
