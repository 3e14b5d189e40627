"""Runs the region heads of an artifact in ONNX Runtime, for the decoder of any library."""

from collections.abc import Mapping

import numpy as np

from export.arrays import FloatArray
from export.artifact import Artifact
from runtimes.devices import CPU, Device
from runtimes.onnxruntime.graph import open_graph, running
from runtimes.session.regions import RegionHead

NAMES: Mapping[RegionHead, str] = {"coord": "coordinate", "size": "size"}


class OnnxRegionHeads:
    """The loaded region heads of an artifact, in one ONNX graph."""

    def __init__(
        self, artifact: Artifact, threads: int, device: Device = CPU, *, kleidiai: bool = True
    ) -> None:
        self._path = artifact.path
        self._graph = open_graph(artifact.file("region"), threads, device, kleidiai=kleidiai)

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
        empty = {x.name: np.zeros((0, x.shape[1]), np.float32) for x in self._graph.get_inputs()}
        with running(self._path):
            result: FloatArray = self._graph.run([output_name], empty | {input_name: rows})[0]
        return result
