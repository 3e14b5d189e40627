"""The vision graphs of an artifact in ONNX Runtime, for whichever decoder takes their features.

NOT aware of prompts or of decoders.
"""

import numpy as np

from export.artifact import Artifact
from runtimes.base import FloatArray
from runtimes.crops import joined
from runtimes.onnxruntime_graph import open_graph
from runtimes.prepare import Pixels

PARTS = ("vision", "projection")
"""The components of an artifact (Manifest.components) that are its tower."""


class OnnxTower:
    """runtimes.vision.Tower over an artifact's ONNX graphs."""

    def __init__(self, artifact: Artifact, threads: int, device: str = "cpu") -> None:
        manifest = artifact.manifest
        self._vlm = manifest.vlm
        self._graphs = {
            part: open_graph(artifact.path / files[0], threads, device)
            for part, files in manifest.components.items()
            if part in PARTS
        }

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Tile by tile: no slower than all at once on a CPU, and a small part of the memory."""
        features = [self._encoded(image) for image in images]
        return np.concatenate([feature.reshape(-1, self._vlm.text.hidden) for feature in features])

    def _encoded(self, image: Pixels) -> FloatArray:
        tower, projector = self._vlm.sight
        vision = self._graphs["vision"]
        if image.cells is not None:
            rows, cols = (edge * tower.square for edge in image.cells)
            sizes = np.array([[1, rows, cols]])
            whole: FloatArray = vision.run(
                None, {"pixel_values": image.values, "image_grid_thw": sizes}
            )[0]
            return whole
        tiles = (vision.run(None, {"pixel_values": tile[None]})[0] for tile in image.values)
        overlap = projector.overlap
        if overlap is None:
            found: FloatArray = np.concatenate(list(tiles))
            return found
        patches = (tile[0] for tile in tiles)
        both = joined(patches, image.rows, image.cols, tower.side, overlap)
        features: FloatArray = self._graphs["projection"].run(None, {"patches": both[None]})[0]
        return features

    def close(self) -> None:
        self._graphs.clear()
