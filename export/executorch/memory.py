"""Predicts the peak memory of a process that runs a program with ExecuTorch's Python runtime."""

from export.count import FLOAT_BYTES, cache_bytes_per_token
from export.executorch.metadata import cached_positions, new_positions
from export.executorch.sizes import stored_bytes
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
from export.modeling.vision import ImageVision
from export.modeling.vlm import Vlm
from export.onnx.memory import PREPARING
from export.quantize.recipe import Recipe

PROCESS = 400 * MB  # Python, numpy, torch, ExecuTorch with its operators
FILE = 6 * MB  # pages of the mapped program other than its tables
TOWER_ROWS = 4.6
"""Memory of XNNPACK for a tile beside its scores, as a multiple of a matrix [patches, hidden]."""
TOWER_INNER = 4.4
"""Memory of XNNPACK for a feed-forward of a tile, as a multiple of [patches, intermediate]."""
PROMPT_INNER = 3.5
"""Memory of XNNPACK for a prompt, as a multiple of a matrix [positions of a call, intermediate]."""


def peak_bytes(vlm: Vlm, recipe: Recipe, files: Files, request: RequestSize) -> int:
    """Predicts the peak memory of the process in bytes; `files` is not used.

    It is the larger of two moments: the decoder's largest matrix is packed while the program loads,
    or a prompt is computed while the pixels of the next image are prepared. All methods share the
    memory that was planned when the program was made. XNNPACK packs weights in memory of its own;
    tables stay in the mapped file.
    """
    weights, largest = 0, 0
    for _, shape, part, storage in matrices(vlm, recipe):
        size = stored_bytes(shape, storage)
        weights += size
        largest = max(largest, size if part == "decoder" else 0)
    loaded = PROCESS + FILE + weights + sum(planned_bytes(vlm))
    answering = TOKENIZER * vlm.text.vocab + PREPARING * pixels_bytes(vlm, request)
    return int(loaded + max(largest, answering + _workspace(vlm, request)))


def planned_bytes(vlm: Vlm) -> tuple[int, int]:
    """Returns the planned memory of intermediate values, and that of the key-value cache.

    Of intermediate values, the decoder's are the most: those of a feed-forward for the positions of
    one call (or of attention, where it is computed twice), rotary factors, and masks.
    """
    text, rows, length = vlm.text, new_positions(vlm), cached_positions(vlm)
    inner = (4 if text.gated else 2) * text.intermediate
    ropes = {text.rope(layer) for layer in range(text.layers)}
    wide = max(inner + 2 * text.hidden, 10 * text.hidden if text.prefix else 0)
    values = wide + 2 * text.rotated * len(ropes) + length * len(_masks(vlm))
    cache = length * cache_bytes_per_token(vlm, FLOAT_BYTES)
    return FLOAT_BYTES * rows * values, cache


def _masks(vlm: Vlm) -> set[tuple[int | None, bool]]:
    """Returns the kinds of masks of the decoder's layers: window, and whether images see ahead."""
    text = vlm.text
    kinds = {(text.window(layer), text.bidirectional_images) for layer in range(text.layers)}
    return {kind for kind in kinds if kind != (None, False)}


def _workspace(vlm: Vlm, request: RequestSize) -> float:
    """Predicts the bytes in which XNNPACK computes: once for all methods, as much as any needs.

    While it grows, the old one is still there.
    """
    rows = min(request.positions, new_positions(vlm))
    prompt = PROMPT_INNER * rows * vlm.text.intermediate * FLOAT_BYTES
    if not request.tiles:
        return prompt
    vision = vlm.require_vision()
    tower = vision.tower
    inner = TOWER_INNER * tower_matrix_bytes(vlm)
    scores = 0 if isinstance(vision, ImageVision) else tower.heads * tower.patches
    attention = FLOAT_BYTES * tower.patches * (scores + TOWER_ROWS * tower.hidden)
    image = max(inner, attention)
    return image + prompt if prompt > image else image


EXECUTORCH = RuntimeMemory("executorch", FLOAT_BYTES, peak_bytes)
