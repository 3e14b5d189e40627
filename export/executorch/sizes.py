"""Predicts the size of an ExecuTorch program from shapes: weights and tables exactly, the rest not.

ExecuTorch's library writes the file, and the graphs in it differ by operators that its passes add.
"""

from collections.abc import Mapping
from math import prod
from typing import assert_never

from export.count import FLOAT_BYTES
from export.executorch.metadata import PROGRAM, cached_positions, most_patches
from export.memory import matrices
from export.model import Model
from export.modeling.rotary import patch_rope
from export.modeling.tensors import Shape
from export.modeling.vision import ImageVision, TileVision
from export.modeling.vlm import shapes
from export.quantize.recipe import Recipe, Storage

GRAPH = 1_100
"""Bytes of the graphs for each weight: its operators and values, and those of its layer that have
no weight. The bundled models have 900 to 1,250."""
ROW_SCALE, BLOCK_SCALE = 4, 2
"""Bytes of a scale: of a row at 8 bits, and of a block at 4 bits."""


def sizes(model: Model, recipe: Recipe, layout: str) -> Mapping[str, int]:
    """Predicts the bytes of the program (Target.sizes)."""
    vlm = model.vlm
    weights = sum(stored_bytes(shape, storage) for _, shape, _, storage in matrices(vlm, recipe))
    vectors = sum(FLOAT_BYTES * prod(shape) for shape in shapes(vlm).values() if len(shape) < 2)
    return {PROGRAM: weights + vectors + _tables(model) + GRAPH * len(shapes(vlm))}


def stored_bytes(shape: Shape, storage: Storage) -> int:
    """Returns the bytes of a matrix with its scales; rows of 4 bits are padded to whole blocks."""
    rows, columns = shape[0], prod(shape[1:])
    match storage.bits:
        case 8:
            return rows * (columns + ROW_SCALE)
        case 4:
            blocks = -(-columns // storage.block)
            return rows * blocks * (storage.block // 2 + BLOCK_SCALE)
        case _:
            return FLOAT_BYTES * rows * columns


def _tables(model: Model) -> int:
    """Returns the bytes of the rotary tables of positions, and of rows and columns of patches."""
    text = model.vlm.text
    ropes = {text.rope(layer) for layer in range(text.layers)}
    values = len(ropes) * cached_positions(model.vlm) * text.rotated
    return FLOAT_BYTES * (values + _patch_values(model))


def _patch_values(model: Model) -> int:
    match model.vlm.vision:
        case ImageVision(tower=tower):
            edge = most_patches(model) // tower.spatial_merge_size
            return edge * patch_rope(tower.hidden // tower.heads).dims
        case TileVision() | None:
            return 0
        case vision:
            assert_never(vision)
