"""Peak memory of ONNX Runtime on a CPU, for one process that answers (export/memory.py)."""

from collections.abc import Mapping
from math import prod

from export.count import FLOAT_BYTES, cache_bytes_per_token
from export.memory import (
    MB,
    TOKENIZER,
    Files,
    RequestSize,
    RuntimeMemory,
    matrices,
    pixels_bytes,
    tower_matrix_bytes,
)
from export.modeling.decoder import Decoder
from export.modeling.rotary import STORED_POSITIONS
from export.modeling.vlm import COMPONENTS, Vlm
from export.quantize.recipe import Recipe, Storage

PROCESS = 98 * MB  # Python, numpy, the library, three graphs
FOLDING = 3.7
"""Copies of an int4 tower that exist at once while it becomes int8; they are freed afterwards."""
TOWER_ACTIVATIONS = 4.0
"""Memory of the arena for a tile, in matrices [patches, intermediate] of floats."""
PROJECTION_ACTIVATIONS = 2.1
"""Memory of the arena of a projector with a graph of its own, in matrices [patches, inner]."""
DECODER_ACTIVATIONS = 4.9
"""Memory of the arena for a prompt, in matrices [positions, 2 intermediate] of floats."""
LOOK_UP = 16 * 1024
"""Bytes of the mapped embedding table that one text position brings into memory: pages of codes and
of scales, and the pages around them that the kernel maps too."""
PREPARING = 3.3
"""Memory while the next image is prepared, in copies of its tiles as floats."""


def peak_bytes(vlm: Vlm, recipe: Recipe, files: Files, request: RequestSize) -> int:
    """The largest of three moments: while the tower loads, while the decoder loads, and while the
    next image is prepared with the tower's arena, the prompt's and the cache still there.

    Loading includes neither the tokenizer, which is opened after the graphs, nor rotary tables,
    which are mapped. While the decoder loads, its largest matrix is also mapped, and the scales
    that constant folding computes exist twice.
    """
    held = held_bytes(vlm, recipe)
    table, largest, scales = 0.0, 0.0, 0.0
    for _, shape, part, storage in matrices(vlm, recipe):
        size = prod(shape)
        table += size * _stored_bytes(storage) if part == "embedding" else 0
        if part == "decoder":
            largest = max(largest, size * storage.bits / 8)
            scales += FLOAT_BYTES * size / storage.block if storage.quantized else 0
    ropes = {vlm.text.rope(layer) for layer in range(vlm.text.layers)}
    stored = len(ropes) * min(vlm.text.context, STORED_POSITIONS)
    rotary = stored * vlm.text.rotated * FLOAT_BYTES
    loaded = PROCESS + sum(held.values())
    loading = PROCESS + loading_bytes(vlm, recipe)
    text = request.positions - vlm.image_positions(request.tiles)
    answering = TOKENIZER * vlm.text.vocab + rotary + _activations(vlm, request)
    answering += min(table, LOOK_UP * text)
    return int(max(loading, loaded + largest + scales, loaded + answering))


def held_bytes(vlm: Vlm, recipe: Recipe) -> Mapping[str, float]:
    """Bytes of the weights of each component once they are loaded."""
    held = dict.fromkeys(COMPONENTS, 0.0)
    for _, shape, part, storage in matrices(vlm, recipe):
        held[part] += prod(shape) * _loaded_bytes(part, storage)
    return held


def loading_bytes(vlm: Vlm, recipe: Recipe) -> float:
    """The most that a tower takes while it loads."""
    found = 0.0
    for name, shape, part, storage in matrices(vlm, recipe):
        if part == "vision":
            folded = storage.bits == 4 and _in_tower(vlm, name)
            factor = FOLDING if folded else _loaded_bytes(part, storage)
            found += prod(shape) * factor
    return found


def _activations(vlm: Vlm, request: RequestSize) -> float:
    """What a session holds besides its weights while it prepares the image after an answer."""
    tower = tower_bytes(vlm) + PREPARING * pixels_bytes(vlm, request) if request.tiles else 0
    cache = request.positions * cache_bytes_per_token(vlm, FLOAT_BYTES)
    prompt = DECODER_ACTIVATIONS * request.positions * 2 * vlm.text.intermediate * FLOAT_BYTES
    return tower + cache + prompt + _scores(vlm.text, request)


def tower_bytes(vlm: Vlm) -> float:
    """The arenas of the tower and of its projector."""
    vision = vlm.require_vision()
    joined = vision.tower.patches * vision.crops.inner * FLOAT_BYTES if vision.crops else 0
    return TOWER_ACTIVATIONS * tower_matrix_bytes(vlm) + PROJECTION_ACTIVATIONS * joined


def _scores(text: Decoder, request: RequestSize) -> int:
    """Bytes of one layer's attention scores, and of a bias for each window.

    They exist where attention gets a bias (bidirectional images), not where it is causal.
    """
    windows = {text.window(layer) for layer in range(text.layers)}
    kept = text.heads + len(windows) if text.sees_later_positions else 0
    return kept * request.positions**2 * FLOAT_BYTES


def _in_tower(vlm: Vlm, name: str) -> bool:
    """Whether a weight of "vision" is in the tower's graph; the projector of crops has its own."""
    joins = vlm.vision is not None and vlm.vision.crops is not None
    return not (joins and name.startswith("mm."))


def _loaded_bytes(part: str, storage: Storage) -> float:
    """Bytes of a weight once it is loaded, by component.

    The embedding is read in place, row by row; region heads load at their first use. The tower
    multiplies int8 in every quantized recipe. MatMulNBits holds the packed codes and three floats a
    block: packed scales, their sums, and the scales converted from the file's. Half precision is
    widened to float32.
    """
    if part in ("embedding", "region"):
        return 0
    if not storage.quantized:
        return FLOAT_BYTES
    return 1 if part == "vision" else storage.bits / 8 + 3 * FLOAT_BYTES / storage.block


def _stored_bytes(storage: Storage) -> float:
    """Bytes of an embedding weight in the file, with its share of a float16 scale."""
    return storage.bits / 8 + (2 / storage.block if storage.quantized else 0)


ONNX_RUNTIME = RuntimeMemory("onnxruntime", FLOAT_BYTES, peak_bytes)
