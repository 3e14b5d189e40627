"""Predicts the peak memory of a process that runs a model with llama.cpp on a CPU."""

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
"""Bytes for each Q4_0 weight. llama.cpp stores the decoder's matrices, including a tied output
head, a second time, interleaved for wide registers."""
ENCODING, ENCODED = 4.6, 2.1
"""Memory of the vision tower while it computes and afterwards, as a multiple of one float32 matrix
[patches, intermediate]."""
MICRO_BATCH = 512
PROMPT_ROWS = 18
"""Memory for a micro-batch of the prompt, as a multiple of a float32 matrix [positions, hidden]."""
HOLDING, PREPARING = 1.5, 2.7
"""Memory of pixels while the tower computes and while the next image is prepared, as a multiple of
the image's float32 tiles."""
CACHE_VALUE_BYTES = 2  # float16


def peak_bytes(vlm: Vlm, recipe: Recipe, files: Files, request: RequestSize) -> int:
    """Predicts the peak memory of the process in bytes. `files`: bytes of the artifact's files.

    It is the sum of the files' sizes, of what loading allocates, and of the buffers at the larger
    of two moments: the vision tower computes, or the next image is prepared while the buffers of
    the first still exist. If `files` has ONNX graphs, ONNX Runtime runs the tower
    (`_with_onnx_tower`).
    """
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
    """Predicts the peak in bytes if ONNX Runtime runs the vision tower and llama.cpp the decoder.

    `decoder`: bytes of the process with llama.cpp's decoder and its prompt. The peak is the larger
    of two moments: the tower loads, before the decoder does; or the next image is prepared while
    the buffers of decoder and tower still exist.
    """
    held = onnx.held_bytes(vlm, recipe)
    loading = PROCESS + ONNX_LIBRARY + onnx.loading_bytes(vlm, recipe)
    tower = onnx.tower_bytes(vlm) + PREPARING * pixels_bytes(vlm, request) if request.tiles else 0
    return max(loading, decoder + ONNX_LIBRARY + held["vision"] + held["region"] + tower)


LLAMA_CPP = RuntimeMemory("llama_cpp", CACHE_VALUE_BYTES, peak_bytes)
