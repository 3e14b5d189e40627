"""llama.cpp on the CPU: a GGUF text model, and a vision tower through mtmd or ONNX Runtime.

Uses the bindings' C functions, not their `Llama` class, which samples and copies on its own.
NOT aware of prompts or clocks.
"""

from collections.abc import Callable, Mapping
from typing import Any

from export.artifact import Artifact
from export.errors import UserError
from runtimes.base import FloatArray, IntArray, Session
from runtimes.llama_cpp_files import checked_decoder, checked_mmproj
from runtimes.prepare import Pixels, preparer_of
from runtimes.session import GreedySession, room
from runtimes.vision import Tower


def open_session(
    artifact: Artifact, *, threads: int, device: str = "cpu", context: int | None = None
) -> Session:
    """Load a GGUF artifact; `context`: positions to make room for (see session.room).

    Raises UserError for files that are missing, damaged or of another model.
    """
    if device != "cpu":
        raise UserError(f"llama_cpp runs on cpu only, not on {device}")
    manifest = artifact.manifest
    backend = LlamaBackend(artifact, threads, room(manifest.vlm, context))
    return GreedySession(backend, preparer_of(artifact), manifest.vlm.stop_token_ids)


class LlamaBackend:
    """runtimes.session.Backend over llama.cpp. `cache_bits`: 16 (llama.cpp's default) or 32."""

    def __init__(
        self, artifact: Artifact, threads: int, context: int, *, cache_bits: int = 16
    ) -> None:
        from runtimes.llama_cpp_decoder import LlamaDecoder

        self.context = context
        self._vlm = artifact.manifest.vlm
        path = checked_decoder(artifact)
        tower = TOWERS[artifact.manifest.layout]
        self._decoder = LlamaDecoder(path, threads, context, cache_bits=cache_bits)
        try:
            self._tower = tower(artifact, self._decoder.model, threads)
        except UserError:
            self._decoder.close()
            raise

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        assert self._tower is not None, "the preparer refuses images of models for text alone"
        return self._tower.encode(images)

    def extend(
        self,
        ids: IntArray,
        features: FloatArray | None,
        past: int,
        positions: IntArray | None = None,
    ) -> FloatArray:
        return self._decoder.extend(ids, features, self._vlm.image_token_id, past)

    def close(self) -> None:
        if self._tower is not None:
            self._tower.close()
        self._decoder.close()


def _mtmd_tower(artifact: Artifact, text_model: Any, threads: int) -> Tower | None:
    if artifact.manifest.vlm.vision is None:
        return None
    from runtimes.llama_cpp_vision import MtmdTower

    return MtmdTower(checked_mmproj(artifact), text_model, artifact.manifest.vlm, threads)


def _onnx_tower(artifact: Artifact, _text_model: Any, threads: int) -> Tower | None:
    from runtimes.onnxruntime_vision import OnnxTower

    return OnnxTower(artifact, threads)


TOWERS: Mapping[str, Callable[[Artifact, Any, int], Tower | None]] = {
    "native": _mtmd_tower,
    "onnx-vision": _onnx_tower,
}
"""By the artifact's layout: mmproj through mtmd, or the onnx target's graphs; None for models for
text alone."""
