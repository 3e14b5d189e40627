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
from runtimes.prepare import Pixels, preparer_of
from runtimes.session import Backend, GreedySession

CONTEXT = 2048


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> Session:
    """Open the text model of a GGUF artifact."""
    return GreedySession(open_backend(artifact, threads), preparer_of(artifact), ())


def open_backend(artifact: Artifact, threads: int) -> Backend:
    """The bare loop's step."""
    manifest = artifact.manifest
    path = artifact.path / manifest.components["decoder"][0]
    return BareBackend(str(path), threads, manifest.vlm.text.vocab)


class BareBackend:
    """runtimes.session.Backend that only decodes."""

    def __init__(self, path: str, threads: int, vocab: int) -> None:
        llama.llama_backend_init()
        self._model = llama.llama_model_load_from_file(
            path.encode(), llama.llama_model_default_params()
        )
        settings = llama.llama_context_default_params()
        settings.n_ctx = CONTEXT
        settings.n_threads = settings.n_threads_batch = threads
        self._context = llama.llama_init_from_model(self._model, settings)
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
            llama.llama_memory_clear(self._memory, True)
        tokens = (ctypes.c_int32 * len(ids))(*ids.tolist())
        llama.llama_decode(self._context, llama.llama_batch_get_one(tokens, len(ids)))
        llama.llama_synchronize(self._context)
        return self._nothing

    def close(self) -> None:
        llama.llama_free(self._context)
        llama.llama_model_free(self._model)
