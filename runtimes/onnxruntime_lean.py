"""ONNX Runtime for devices short of memory: either the tower is loaded or the decoder, never both.

A new image loads the tower; when it has been seen, the tower is freed and the decoder loaded. The
numbers are those of runtimes.onnxruntime_. NOT aware of prompts or clocks.
"""

from functools import partial

from export.artifact import Artifact
from runtimes.base import FloatArray, IntArray, Logits, Session
from runtimes.onnxruntime_ import OnnxBackend
from runtimes.onnxruntime_graph import give_back
from runtimes.onnxruntime_vision import OnnxTower
from runtimes.places import Head
from runtimes.prepare import Pixels, preparer_of
from runtimes.session import GreedySession, room


def open_session(
    artifact: Artifact, *, threads: int, device: str = "cpu", context: int | None = None
) -> Session:
    """Open an ONNX artifact; `context`: positions to make room for (see session.room)."""
    manifest = artifact.manifest
    backend = LeanBackend(artifact, threads, room(manifest.vlm, context))
    return GreedySession(backend, preparer_of(artifact), manifest.vlm.stop_token_ids)


class LeanBackend:
    """runtimes.session.Backend and runtimes.places.Places. It begins with what is needed first: the
    tower, if there is one."""

    def __init__(self, artifact: Artifact, threads: int, context: int) -> None:
        self.context = context
        self._open_tower = partial(OnnxTower, artifact, threads)
        self._open_decoder = partial(OnnxBackend, artifact, threads, context, sees=False)
        self._loaded: OnnxTower | OnnxBackend | None = None
        if artifact.manifest.vlm.vision is None:
            self._decoder()
        else:
            self._tower()

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """See runtimes.session.Backend."""
        return self._tower().encode(images)

    def extend(
        self,
        ids: IntArray,
        features: FloatArray | None,
        past: int,
        positions: IntArray | None = None,
    ) -> Logits:
        """See runtimes.session.Backend."""
        return self._decoder().extend(ids, features, past, positions)

    def embed_places(self, head: Head, numbers: FloatArray) -> FloatArray:
        """See runtimes.places.Places."""
        return self._decoder().embed_places(head, numbers)

    def place_logits(self, head: Head) -> FloatArray:
        """See runtimes.places.Places."""
        return self._decoder().place_logits(head)

    def close(self) -> None:
        """Free everything."""
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None
            give_back()

    def _tower(self) -> OnnxTower:
        if not isinstance(self._loaded, OnnxTower):
            self.close()
            self._loaded = self._open_tower()
        return self._loaded

    def _decoder(self) -> OnnxBackend:
        if not isinstance(self._loaded, OnnxBackend):
            self.close()
            self._loaded = self._open_decoder()
        return self._loaded
