"""Runs the vision graphs of an artifact in ONNX Runtime, for the decoder of any library."""

from export.artifact import Artifact
from runtimes.devices import CPU, Device
from runtimes.graphs.tower import GraphTower
from runtimes.onnxruntime.graph import OnnxGraph, open_graph
from runtimes.onnxruntime.products import SIGNED, UNSIGNED, signed_is_better


class OnnxTower(GraphTower):
    """Runs the vision graphs of an artifact in ONNX Runtime (VisionTower)."""

    def __init__(
        self, artifact: Artifact, threads: int, device: Device = CPU, *, kleidiai: bool = True
    ) -> None:
        signed = device == CPU and signed_is_better()
        self.choices: dict[str, str] = {}
        """The sign of the weights in each part's integer products, where there are any."""

        def open_part(part: str) -> OnnxGraph:
            plain, exact = artifact.file(part), artifact.file(part, signed=True)
            if plain != exact:
                self.choices[part] = SIGNED if signed else UNSIGNED
            graph = open_graph(exact if signed else plain, threads, device, kleidiai=kleidiai)
            return OnnxGraph(graph, artifact.path)

        super().__init__(artifact.manifest.vlm, open_part)
