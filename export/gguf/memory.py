"""Peak memory of llama.cpp on a CPU, for one process that answers (export/memory.py)."""

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
from export.modeling.vlm import Vlm
from export.onnx import memory as onnx
from export.quantize.recipe import Recipe

PROCESS = 84 * MB  # Python, numpy, the libraries
ONNX_LIBRARY = 32 * MB  # in addition to llama.cpp's
LAYER = 0.205 * MB  # nodes and descriptors of the graphs, for each block
REPACKED = 18 / 32
"""Bytes of a Q4_0 weight. The decoder's matrices, a tied head among them, are stored a second time,
interleaved for wide registers."""
ENCODING, ENCODED = 4.6, 2.1
"""Memory of the tower while it computes and afterwards, in matrices [patches, intermediate]."""
MICRO_BATCH = 512
PROMPT_ROWS = 18
"""Memory for a micro-batch of positions, in matrices [positions, hidden] of floats."""
HOLDING, PREPARING = 1.5, 2.7
"""Memory while the tower computes and while the next image is prepared, in copies of its tiles."""
CACHE_VALUE_BYTES = 2  # float16


def peak_bytes(vlm: Vlm, recipe: Recipe, files: Files, request: RequestSize) -> int:
    """The files, mapped or read, and what loading allocates; then the larger of two moments: while
    the tower computes, or while the next image is prepared with all buffers still there."""
    graphs = sum(size for name, size in files.items() if ".onnx" in name)
    repacked = sum(
        prod(shape) * REPACKED
        for _, shape, part, storage in matrices(vlm, recipe)
        if part == "decoder" and storage.bits == 4 and shape[-1] % 32 == 0
    )
    layers = vlm.text.layers + (vlm.vision.tower.layers if vlm.vision else 0)
    cache = request.context * cache_bytes_per_token(vlm, CACHE_VALUE_BYTES)
    process = PROCESS + TOKENIZER * vlm.text.vocab + layers * LAYER
    loaded = process + sum(files.values()) - graphs + repacked + cache
    rows = min(MICRO_BATCH, request.positions)
    prompt = PROMPT_ROWS * rows * vlm.text.hidden * FLOAT_BYTES
    if graphs:
        return int(_with_onnx_tower(vlm, recipe, request, loaded + prompt))
    if not request.tiles:
        return int(loaded + prompt)
    pixels, tower = pixels_bytes(vlm, request), tower_matrix_bytes(vlm)
    encoding = HOLDING * pixels + ENCODING * tower
    return int(loaded + max(encoding, PREPARING * pixels + ENCODED * tower + prompt))


def _with_onnx_tower(vlm: Vlm, recipe: Recipe, request: RequestSize, decoder: float) -> float:
    """The larger of two moments: while the tower loads, before the decoder does; or while the next
    image is prepared, with the decoder's buffers and the tower's arena still there."""
    held = onnx.held_bytes(vlm, recipe)
    loading = PROCESS + ONNX_LIBRARY + onnx.loading_bytes(vlm, recipe)
    tower = onnx.tower_bytes(vlm) + PREPARING * pixels_bytes(vlm, request) if request.tiles else 0
    return max(loading, decoder + ONNX_LIBRARY + held["vision"] + held["region"] + tower)


LLAMA_CPP = RuntimeMemory("llama_cpp", CACHE_VALUE_BYTES, peak_bytes)
