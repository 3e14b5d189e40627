"""Runs the region heads of an artifact, for the decoder of any library."""

from collections.abc import Mapping

import numpy as np

from export.arrays import FloatArray
from runtimes.graphs.graph import Graph
from runtimes.session.regions import RegionHead

NAMES: Mapping[RegionHead, str] = {"coord": "coordinate", "size": "size"}


class GraphRegionHeads:
    """The loaded region heads of an artifact, in one graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

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
