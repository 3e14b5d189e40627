"""llama.cpp with nothing around it: llama_decode in a loop, as llama-bench's pp and tg tests do.

The yardstick of the llama_cpp runtime on the same file. NOT aware of images; logits are left where
llama.cpp puts them, so answers must be forced.
"""

import ctypes

import numpy as np
from llama_cpp import llama_cpp as llama

from export.artifact import Artifact
from export.errors import UserError
from runtimes.base import FloatArray, IntArray, Session
from runtimes.devices import CPU, Device, device_of
from runtimes.llama_cpp.devices import model_settings
from runtimes.llama_cpp.log import complaints, silence
from runtimes.nvidia import expect_memory
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.loop import Backend, GreedySession

CONTEXT = 2048


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> Session:
    """Open the text model of a GGUF artifact."""
    backend = open_backend(artifact, threads, device_of(device))
    return GreedySession(backend, preparer_of(artifact), ())


def open_backend(artifact: Artifact, threads: int, device: Device = CPU) -> Backend:
    """The bare loop's step."""
    manifest = artifact.manifest
    path = artifact.path / manifest.components["decoder"][0]
    return BareBackend(str(path), threads, manifest.vlm.text.vocab, device)


class BareBackend:
    """runtimes.session.loop.Backend that only decodes."""

    def __init__(self, path: str, threads: int, vocab: int, device: Device) -> None:
        silence()
        self._model = llama.llama_model_load_from_file(path.encode(), model_settings(device))
        if not self._model:
            expect_memory(complaints(), "while the model was loaded")
            raise UserError(f"{path}: llama.cpp cannot load it")
        settings = llama.llama_context_default_params()
        settings.n_ctx = CONTEXT
        settings.n_threads = settings.n_threads_batch = threads
        self._context = llama.llama_init_from_model(self._model, settings)
        if not self._context:
            raise UserError(f"{path}: no memory for a context of {CONTEXT}")
        self._memory = llama.llama_get_memory(self._context)
        self._nothing = np.zeros(vocab, np.float32)
        self.context = CONTEXT

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        raise UserError("llama_bench runs text alone; ask for --prompt text")

    def extend(
        self,
        ids: IntArray,
        features: FloatArray | None,
        past: int,
        positions: IntArray | None = None,
    ) -> FloatArray:
        if past == 0:
            llama.llama_memory_clear(self._memory, False)  # as llama-bench does
        tokens = (ctypes.c_int32 * len(ids))(*ids.tolist())
        if llama.llama_decode(self._context, llama.llama_batch_get_one(tokens, len(ids))):
            raise RuntimeError(f"llama_decode failed at position {past}")
        llama.llama_synchronize(self._context)
        return self._nothing

    def close(self) -> None:
        llama.llama_free(self._context)
        llama.llama_model_free(self._model)
