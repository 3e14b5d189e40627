"""Predicts the peak memory of a process that runs a model with ONNX Runtime on a CPU."""

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
"""Memory of a 4-bit vision tower while it is unpacked to 8 bits, in bytes for each weight; it is
freed afterwards."""
TOWER_ACTIVATIONS = 4.0
"""Arena memory of the tower, as a multiple of a tile's float32 matrix [patches, intermediate]."""
PROJECTION_ACTIVATIONS = 2.1
"""Arena memory of a projector that has a graph of its own, as a multiple of a float32 matrix
[patches, inner]."""
DECODER_ACTIVATIONS = 4.9
"""Arena memory while a prompt runs, as a multiple of a float32 matrix [positions that run at once,
2 intermediate]."""
PROMPT_STEP = 512
"""How many positions of a prompt run at once, unless more must: with fewer, matrix products are
slower than those of a whole prompt."""
LOOK_UP = 16 * 1024
"""Bytes of the mapped embedding table that one text position brings into memory: pages of codes and
of scales, and the pages around them that the kernel maps too."""
PREPARING = 3.3
"""Memory while the next image is prepared, as a multiple of the size of its float32 tiles."""


def peak_bytes(vlm: Vlm, recipe: Recipe, files: Files, request: RequestSize) -> int:
    """Predicts the peak memory of the process in bytes; `files` is not used.

    It is the largest of three moments: the vision tower loads, the decoder loads, or the next image
    is prepared while the cache and the arenas of tower and prompt still exist. Loading includes
    neither the tokenizer, which is opened after the graphs, nor rotary tables, which are mapped.
    While the decoder loads, its largest matrix is also mapped, and the scales that constant folding
    computes exist twice.
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


def prompt_step(vlm: Vlm) -> int:
    """Returns the most positions of a prompt that run at once.

    These are more than PROMPT_STEP where positions of an image that attend to each other are.
    """
    image = vlm.image_positions(1) if vlm.text.bidirectional_images else 0
    return max(PROMPT_STEP, vlm.text.prefix, image)


def held_bytes(vlm: Vlm, recipe: Recipe) -> Mapping[str, float]:
    """Predicts the memory in bytes that each component's weights take once they are loaded.

    The keys are COMPONENTS; 0 for components that the model lacks or that are not held in memory.
    """
    held = dict.fromkeys(COMPONENTS, 0.0)
    for _, shape, part, storage in matrices(vlm, recipe):
        held[part] += prod(shape) * _loaded_bytes(part, storage)
    return held


def loading_bytes(vlm: Vlm, recipe: Recipe) -> float:
    """Predicts the most memory in bytes that the vision tower's weights take while they load."""
    found = 0.0
    for name, shape, part, storage in matrices(vlm, recipe):
        if part == "vision":
            folded = storage.bits == 4 and _in_tower(vlm, name)
            factor = FOLDING if folded else _loaded_bytes(part, storage)
            found += prod(shape) * factor
    return found


def _activations(vlm: Vlm, request: RequestSize) -> float:
    """Predicts the bytes, besides weights, in use while the image after an answer is prepared.

    They are the tower's arena, pixels, the key-value cache, the prompt's arena and scores.
    """
    tower = tower_bytes(vlm) + PREPARING * pixels_bytes(vlm, request) if request.tiles else 0
    cache = request.positions * cache_bytes_per_token(vlm, FLOAT_BYTES)
    step = min(request.positions, prompt_step(vlm))
    prompt = DECODER_ACTIVATIONS * step * 2 * vlm.text.intermediate * FLOAT_BYTES
    return tower + cache + prompt + _scores(vlm.text, step, request.positions)


def tower_bytes(vlm: Vlm) -> float:
    """Predicts the bytes of ONNX Runtime's arenas for the vision tower and its projector."""
    vision = vlm.require_vision()
    joined = vision.tower.patches * vision.crops.inner * FLOAT_BYTES if vision.crops else 0
    return TOWER_ACTIVATIONS * tower_matrix_bytes(vlm) + PROJECTION_ACTIVATIONS * joined


def _scores(text: Decoder, step: int, positions: int) -> int:
    """Predicts the bytes of one layer's attention scores and of a bias for each sliding window.

    The last `step` of `positions` attend to all of them.

    0 for causal decoders: scores are held only where tokens of an image see later ones, because
    attention then takes a bias.
    """
    windows = {text.window(layer) for layer in range(text.layers)}
    kept = text.heads + len(windows) if text.sees_later_positions else 0
    return kept * step * positions * FLOAT_BYTES


def _in_tower(vlm: Vlm, name: str) -> bool:
    """Whether a weight of the component "vision" is in the vision tower's graph.

    Otherwise it is the projector's, which has a graph of its own in models that join crops.
    """
    joins = vlm.vision is not None and vlm.vision.crops is not None
    return not (joins and name.startswith("mm."))


def _loaded_bytes(part: str, storage: Storage) -> float:
    """Returns the memory in bytes of one loaded weight of the component `part`.

    The embedding has 0, as it is read in place, row by row; so have region heads, which load at
    their first use. Floats have 4, also those that the file has as float16. A quantized tower has
    1, because it multiplies int8 with any recipe. MatMulNBits holds packed codes and three floats
    for each block: packed scales, their sums, and the scales converted from the file's.
    """
    if part in ("embedding", "region"):
        return 0
    if not storage.quantized:
        return FLOAT_BYTES
    return 1 if part == "vision" else storage.bits / 8 + 3 * FLOAT_BYTES / storage.block


def _stored_bytes(storage: Storage) -> float:
    """Returns the bytes of one embedding weight in the file, with its share of a float16 scale."""
    return storage.bits / 8 + (2 / storage.block if storage.quantized else 0)


ONNX_RUNTIME = RuntimeMemory("onnxruntime", FLOAT_BYTES, peak_bytes)
