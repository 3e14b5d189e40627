"""The openvino runtime: prompts of ONNX artifacts in OpenVINO, decode steps in ONNX Runtime.

Prompts are faster than in ONNX Runtime on CPUs with VNNI, decode steps are slower everywhere; so is
the tower, unless the CPU has matrix units (docs/notes/2026-11-openvino.md).
"""

from functools import partial

from export.artifact import Artifact
from runtimes.base import Session
from runtimes.devices import Device
from runtimes.graphs.tower import GraphTower
from runtimes.onnxruntime.backend import OnnxBackend, host_graph
from runtimes.openvino.decoder import OpenvinoDecoder
from runtimes.openvino.graph import NAMES, Loader
from runtimes.prepare.request import preparer_of
from runtimes.session.backend import VisionTower, context_length
from runtimes.session.loop import GreedySession


def open_session(
    artifact: Artifact, *, threads: int, device: str = "cpu", context: int | None = None
) -> Session:
    """Loads an ONNX artifact and returns the session; CPU only.

    `context`: positions of the key-value cache (default: the model's limit, at most CONTEXT).
    Raises UserError for a context that the model does not support.
    """
    vlm = artifact.manifest.vlm
    backend = OpenvinoBackend(artifact, threads, context_length(vlm, context))
    return GreedySession(backend, preparer_of(artifact), vlm.stop_token_ids)


class OpenvinoBackend(OnnxBackend):
    """Runs each part of an artifact in the library that is faster at it (ThreadedBackend)."""

    def __init__(self, artifact: Artifact, threads: int, context: int) -> None:
        self._loader = Loader(artifact, threads)
        self._engine = f"OpenVINO, {NAMES[self._loader.precision]}"
        super().__init__(artifact, threads, context)
        self.choices |= {"prompt": self._engine, "step": "ONNX Runtime"}
        del self._loader  # it would hold what it read

    def _opened_tower(self, threads: int, device: Device) -> VisionTower:
        """Loads the tower into OpenVINO if the CPU has matrix units, which only that uses."""
        if not self._loader.has_matrix_units():
            return super()._opened_tower(threads, device)
        vlm, loader = self._artifact.manifest.vlm, self._loader
        tower = GraphTower(vlm, lambda part: loader.graph(self._artifact.file(part)))
        if vlm.vision is not None:
            self.choices["vision"] = self._engine
        return tower

    def _opened_decoder(
        self, threads: int, context: int, device: Device, capture: bool
    ) -> OpenvinoDecoder:
        """Loads the decoder graph into both libraries."""
        artifact = self._artifact
        path, text = artifact.file("decoder"), artifact.manifest.vlm.text
        model = self._loader.compiled(path)
        open_with = partial(host_graph, artifact, self._kleidiai)
        return OpenvinoDecoder(model, open_with, threads, text, context, path)
