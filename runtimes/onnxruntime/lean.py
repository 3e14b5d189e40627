"""ONNX Runtime for devices short of memory: either the tower is loaded or the decoder, never both.

A new image loads the tower; when it has been seen, the tower is freed and the decoder loaded. The
numbers are those of runtimes.onnxruntime.session. NOT aware of prompts or clocks.
"""

from functools import partial

from export.artifact import Artifact
from runtimes.base import FloatArray, IntArray, Logits, Session
from runtimes.onnxruntime.graph import give_back
from runtimes.onnxruntime.session import OnnxBackend
from runtimes.onnxruntime.tower import OnnxTower
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.loop import GreedySession, room
from runtimes.session.regions import Head


def open_session(
    artifact: Artifact, *, threads: int, device: str = "cpu", context: int | None = None
) -> Session:
    """Open an ONNX artifact; `context`: positions to make room for (see session.room)."""
    manifest = artifact.manifest
    backend = LeanBackend(artifact, threads, room(manifest.vlm, context))
    return GreedySession(backend, preparer_of(artifact), manifest.vlm.stop_token_ids)


class LeanBackend:
    """Backend and Places. It begins with what is needed first: the
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
        """See runtimes.session.loop.Backend."""
        return self._tower().encode(images)

    def extend(
        self,
        ids: IntArray,
        features: FloatArray | None,
        past: int,
        positions: IntArray | None = None,
    ) -> Logits:
        """See runtimes.session.loop.Backend."""
        return self._decoder().extend(ids, features, past, positions)

    def embed_places(self, head: Head, numbers: FloatArray) -> FloatArray:
        """See runtimes.session.regions.Places."""
        return self._decoder().embed_places(head, numbers)

    def place_logits(self, head: Head) -> FloatArray:
        """See runtimes.session.regions.Places."""
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
