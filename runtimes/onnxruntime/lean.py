"""Runs ONNX artifacts in less memory: loads either the vision tower or the decoder, never both.

A new image frees the decoder and loads the tower; the next decoder step frees the tower and loads
the decoder. Results are those of runtimes.onnxruntime.session.
"""

from functools import partial

from export.arrays import FloatArray
from export.artifact import Artifact
from runtimes.base import Logits, Session
from runtimes.graphs.memory import give_back
from runtimes.onnxruntime.backend import OnnxBackend
from runtimes.onnxruntime.tower import OnnxTower
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.backend import Extend, context_length
from runtimes.session.loop import GreedySession
from runtimes.session.regions import RegionHead


def open_session(
    artifact: Artifact, *, threads: int, device: str = "cpu", context: int | None = None
) -> Session:
    """Loads an ONNX artifact on the CPU and returns the session.

    `context`: positions of the key-value cache (default: the model's limit, at most CONTEXT).
    """
    manifest = artifact.manifest
    backend = LeanBackend(artifact, threads, context_length(manifest.vlm, context))
    return GreedySession(backend, preparer_of(artifact), manifest.vlm.stop_token_ids)


class LeanBackend:
    """A Backend and RegionBackend that has the vision tower or the decoder loaded, never both.

    It starts with the tower, if the model has one.
    """

    def __init__(self, artifact: Artifact, threads: int, context: int) -> None:
        self.context = context
        self._open_tower = partial(OnnxTower, artifact, threads)
        self._open_decoder = partial(OnnxBackend, artifact, threads, context, load_tower=False)
        self._loaded: OnnxTower | OnnxBackend | None = None
        if artifact.manifest.vlm.vision is None:
            self._decoder()
        else:
            self._tower()

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Runs the tower, loaded if need be; returns image features [tokens, hidden] (Backend)."""
        return self._tower().encode(images)

    def extend(self, step: Extend) -> Logits:
        """Runs the decoder, loaded if need be; returns a step's last logits [vocab] (Backend)."""
        return self._decoder().extend(step)

    def region_embeddings(self, head: RegionHead, values: FloatArray) -> FloatArray:
        """Returns embeddings [n, hidden] of coordinates or sizes (RegionBackend)."""
        return self._decoder().region_embeddings(head, values)

    def region_logits(self, head: RegionHead) -> FloatArray:
        """Returns logits over the coordinates or sizes that may come next (RegionBackend)."""
        return self._decoder().region_logits(head)

    def close(self) -> None:
        """Frees the tower or the decoder, whichever is loaded."""
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None
            give_back()

    def _tower(self) -> OnnxTower:
        """Returns the vision tower; if the decoder is loaded, frees it first."""
        if not isinstance(self._loaded, OnnxTower):
            self.close()
            self._loaded = self._open_tower()
        return self._loaded

    def _decoder(self) -> OnnxBackend:
        """Returns the decoder; if the tower is loaded, frees it first."""
        if not isinstance(self._loaded, OnnxBackend):
            self.close()
            self._loaded = self._open_decoder()
        return self._loaded
