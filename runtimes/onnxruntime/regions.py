"""Runs the region heads of an artifact in ONNX Runtime, for the decoder of any library."""

from collections.abc import Mapping

import numpy as np

from export.arrays import FloatArray
from export.artifact import Artifact
from runtimes.devices import CPU, Device
from runtimes.onnxruntime.graph import OnnxGraph, open_graph
from runtimes.session.regions import RegionHead

NAMES: Mapping[RegionHead, str] = {"coord": "coordinate", "size": "size"}


class OnnxRegionHeads:
    """The loaded region heads of an artifact, in one graph."""

    def __init__(
        self, artifact: Artifact, threads: int, device: Device = CPU, *, kleidiai: bool = True
    ) -> None:
        session = open_graph(artifact.file("region"), threads, device, kleidiai=kleidiai)
        self._graph = OnnxGraph(session, artifact.path)

    def embeddings(self, head: RegionHead, values: FloatArray) -> FloatArray:
        """Returns embeddings [n, hidden] of n coordinates or sizes, for the decoder's input.

        `values`: [n, 1] for the head "coord"; widths and heights [n, 2] for the head "size".
        """
        return self._run(f"{NAMES[head]}s", f"{NAMES[head]}_embeds", values)

    def logits(self, head: RegionHead, state: FloatArray) -> FloatArray:
        """Returns a head's logits: [bins] of a coordinate, [2 bins] of a width and a height.

        `state` [hidden] is the decoder's state before the output norm.
        """
        logits = self._run(f"{NAMES[head]}_states", f"{NAMES[head]}_logits", state[None])
        row: FloatArray = logits[0]
        return row

    def _run(self, input_name: str, output_name: str, rows: FloatArray) -> FloatArray:
        """Computes one output of the graph from one input; its other inputs get 0 rows."""
        shapes = self._graph.inputs.items()
        empty = {name: np.zeros((0, shape[1]), np.float32) for name, shape in shapes}
        return self._graph.run(empty | {input_name: rows}, output_name)
