"""The region heads of an artifact in ONNX Runtime, for whichever decoder has the states they read.

NOT aware of the loop that answers with places (runtimes/session/regions.py).
"""

from collections.abc import Mapping

import numpy as np

from export.artifact import Artifact
from runtimes.base import FloatArray
from runtimes.devices import CPU, Device
from runtimes.onnxruntime.graph import open_graph
from runtimes.session.regions import Head

NAMES: Mapping[Head, str] = {"coord": "coordinate", "size": "size"}


class RegionHeads:
    """Both heads in both directions, one graph."""

    def __init__(self, artifact: Artifact, threads: int, device: Device = CPU) -> None:
        file = artifact.manifest.components["region"][0]
        self._graph = open_graph(artifact.path / file, threads, device)

    def embed(self, head: Head, numbers: FloatArray) -> FloatArray:
        """See runtimes.session.regions.Places.embed_places."""
        return self._run(f"{NAMES[head]}s", f"{NAMES[head]}_embeds", numbers)

    def logits(self, head: Head, state: FloatArray) -> FloatArray:
        """See runtimes.session.regions.Places.place_logits; `state` [hidden] is the decoder's."""
        found: FloatArray = self._run(
            f"{NAMES[head]}_states", f"{NAMES[head]}_logits", state[None]
        )[0]
        return found

    def _run(self, given: str, wanted: str, rows: FloatArray) -> FloatArray:
        """One direction of one head; the others get no rows."""
        none = {x.name: np.zeros((0, x.shape[1]), np.float32) for x in self._graph.get_inputs()}
        found: FloatArray = self._graph.run([wanted], none | {given: rows})[0]
        return found
