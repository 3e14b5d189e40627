"""Runs the vision graphs of an artifact in ONNX Runtime, for the decoder of any library."""

from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from export.arrays import FloatArray
from export.artifact import Artifact
from export.modeling.vision import ImageVision, TileVision
from export.modeling.vlm import Vlm
from runtimes.devices import CPU, Device
from runtimes.onnxruntime.graph import inputs_of, open_graph, running
from runtimes.prepare.crops import stitched
from runtimes.prepare.request import Pixels


class OnnxTower:
    """Runs the vision graphs of an artifact, which turn images into features (VisionTower)."""

    def __init__(
        self, artifact: Artifact, threads: int, device: Device = CPU, *, kleidiai: bool = True
    ) -> None:
        manifest = artifact.manifest
        self._vlm, self._path = manifest.vlm, artifact.path
        self._graphs = {
            part: open_graph(artifact.file(part), threads, device, kleidiai=kleidiai)
            for part in _parts(manifest.vlm)
        }
        graphs = self._graphs.values()
        self._padded = any("pixel_attention_mask" in inputs_of(graph) for graph in graphs)

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Returns the features of all images in order: [image tokens, hidden] (VisionTower).

        Encodes tile by tile: as fast as all tiles at once on a CPU, in a fraction of the memory.
        Drops the column that some layouts add to mark image tokens (export.onnx.layouts).
        """
        with running(self._path):
            features = [self._encoded(image) for image in images]
        rows = [feature.reshape(-1, feature.shape[-1]) for feature in features]
        return np.concatenate([row[:, : self._vlm.text.hidden] for row in rows])

    def _encoded(self, image: Pixels) -> FloatArray:
        """Returns the graphs' output for one image."""
        part, vision = self._vlm.require_vision(), self._graphs["vision"]
        match part:
            case ImageVision(tower=tower):
                assert image.token_grid is not None, "images of any size have a grid of tokens"
                sizes = np.array([[1, *tower.patch_grid(image.token_grid)]])
                whole: FloatArray = vision.run(
                    None, {"pixel_values": image.values, "image_grid_thw": sizes}
                )[0]
                return whole
            case TileVision(tower=tower):
                tiles = (vision.run(None, self._fed(tile[None]))[0] for tile in image.values)
                if part.crops is None:
                    stacked: FloatArray = np.concatenate(list(tiles))
                    return stacked
                patches = (tile[0] for tile in tiles)
                both = stitched(patches, image.rows, image.cols, tower.side, part.crops.margin)
                joined: FloatArray = self._graphs["projection"].run(None, {"patches": both[None]})[
                    0
                ]
                return joined
            case _:
                assert_never(part)

    def _fed(self, tiles: FloatArray) -> dict[str, NDArray[Any]]:
        """Returns the vision graph's inputs for tiles [T, C, h, w], by name.

        Graphs with a padding mask take a batch of samples; the tiles are its only sample.
        """
        if not self._padded:
            return {"pixel_values": tiles}
        mask = np.ones((1, len(tiles), *tiles.shape[2:]), np.bool_)
        return {"pixel_values": tiles[None], "pixel_attention_mask": mask}

    def close(self) -> None:
        """Frees the graphs (VisionTower)."""
        self._graphs.clear()


def _parts(vlm: Vlm) -> tuple[str, ...]:
    """Returns the names of the components (keys of Manifest.components) that encode images."""
    match vlm.vision:
        case None:
            return ()
        case TileVision(crops=crops) if crops is not None:
            return ("vision", "projection")
        case ImageVision() | TileVision():
            return ("vision",)
        case _:
            assert_never(vlm.vision)
