"""Runs the vision graphs of an artifact, for the decoder of any library."""

from collections.abc import Callable
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from export.arrays import FloatArray
from export.modeling.vision import ImageVision, TileVision
from export.modeling.vlm import Vlm
from runtimes.graphs.graph import Graph
from runtimes.prepare.crops import stitched
from runtimes.prepare.request import Pixels


class GraphTower:
    """Runs the vision graphs of an artifact, which turn images into features (VisionTower)."""

    def __init__(self, vlm: Vlm, open_part: Callable[[str], Graph]) -> None:
        """`open_part` loads the graph of a component (key of Manifest.components)."""
        self._vlm = vlm
        self._graphs = {part: open_part(part) for part in _parts(vlm)}
        self._padded = any("pixel_attention_mask" in g.inputs for g in self._graphs.values())

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Returns the features of all images in order: [image tokens, hidden] (VisionTower).

        Encodes tile by tile: as fast as all tiles at once on a CPU, in a fraction of the memory.
        Drops the column that some layouts add to mark image tokens (export.onnx.layouts).
        """
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
                return vision.run({"pixel_values": image.values, "image_grid_thw": sizes})
            case TileVision(tower=tower):
                tiles = (vision.run(self._fed(tile[None])) for tile in image.values)
                if part.crops is None:
                    stacked: FloatArray = np.concatenate(list(tiles))
                    return stacked
                patches = (tile[0] for tile in tiles)
                both = stitched(patches, image.rows, image.cols, tower.side, part.crops.margin)
                return self._graphs["projection"].run({"patches": both[None]})
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
