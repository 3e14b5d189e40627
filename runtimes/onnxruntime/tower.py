"""Runs the vision graphs of an artifact in ONNX Runtime, for the decoder of any library."""

from export.artifact import Artifact
from runtimes.devices import CPU, Device
from runtimes.graphs.tower import GraphTower
from runtimes.onnxruntime.graph import OnnxGraph, open_graph


class OnnxTower(GraphTower):
    """Runs the vision graphs of an artifact in ONNX Runtime (VisionTower)."""

    def __init__(
        self, artifact: Artifact, threads: int, device: Device = CPU, *, kleidiai: bool = True
    ) -> None:
        def open_part(part: str) -> OnnxGraph:
            path = artifact.file(part)
            return OnnxGraph(open_graph(path, threads, device, kleidiai=kleidiai), artifact.path)

        super().__init__(artifact.manifest.vlm, open_part)
