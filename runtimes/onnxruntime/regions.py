"""Runs the region heads of an artifact in ONNX Runtime, for the decoder of any library."""

from export.artifact import Artifact
from runtimes.devices import CPU, Device
from runtimes.graphs.regions import GraphRegionHeads
from runtimes.onnxruntime.graph import OnnxGraph, open_graph


class OnnxRegionHeads(GraphRegionHeads):
    """The loaded region heads of an artifact, in ONNX Runtime."""

    def __init__(
        self, artifact: Artifact, threads: int, device: Device = CPU, *, kleidiai: bool = True
    ) -> None:
        session = open_graph(artifact.file("region"), threads, device, kleidiai=kleidiai)
        super().__init__(OnnxGraph(session, artifact.path))
