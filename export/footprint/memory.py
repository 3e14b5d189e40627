"""Peak memory of a process that answers requests about images, as a sum of stated parts.

The parts are derived from shapes; their constants were measured on x86-64 with the runtimes of
constraints.txt (docs/notes/2026-11-peak-memory.md). NOT aware of how a file is laid out.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from export.count import FLOAT_BYTES, cache_bytes_per_token
from export.images import ImageRecipe
from export.modeling.decoder import Decoder
from export.modeling.rotary import STORED_POSITIONS
from export.modeling.tensors import Shape
from export.modeling.vlm import COMPONENTS, Vlm, component, shapes
from export.quantize.recipe import Recipe, Storage

MB = 10**6
TOKENIZER = 265
"""Bytes of the loaded tokenizer for each entry of the vocabulary, as synthetic exports have it."""
Files = Mapping[str, int]


@dataclass(frozen=True)
class Workload:
    """Requests, one after another: an image of `tiles` tiles each, in a prompt that with its answer
    takes `positions` of a cache made for `context`."""

    tiles: int
    positions: int
    context: int


@dataclass(frozen=True)
class Memory:
    """How one target's runtime spends memory."""

    runtime: str
    """Its name in the table RUNTIMES."""
    cache_value_bytes: int
    peak_bytes: Callable[[Vlm, Recipe, Files, Workload], int]


def full_context(vlm: Vlm, image: ImageRecipe | None, context: int) -> Workload:
    """The largest request a context holds: the most tiles an image becomes, then text to the end.

    An image is cut into as many tiles as its recipe allows and there is room for.
    """
    tiles = image.most_tiles if image else 0
    while vlm.image_positions(tiles) > context:
        tiles -= 1
    return Workload(tiles, context, context)


# --- ONNX Runtime on the CPU ---------------------------------------------------------------------

ONNX_PROCESS = 98 * MB  # Python, numpy, the library, three graphs
FOLDING = 3.7
"""An int4 tower becomes int8 while it loads: copies that exist at once, given back afterwards."""
TOWER_ACTIVATIONS = 4.0
"""Memory of the arena for a tile, in matrices [patches, intermediate] of floats."""
PROJECTION_ACTIVATIONS = 2.1
"""Memory of the arena of a projector with a graph of its own, in matrices [patches, inner]."""
DECODER_ACTIVATIONS = 4.9
"""Memory of the arena for a prompt, in matrices [positions, 2 intermediate] of floats."""
LOOK_UP = 16 * 1024
"""Bytes of the mapped embedding table that one text position brings into memory: pages of codes and
of scales, and neighbours that the kernel maps with them."""
ONNX_PREPARING = 3.3
"""Memory while the next image is prepared, in copies of its tiles as floats."""


def onnx_peak_bytes(vlm: Vlm, recipe: Recipe, files: Files, work: Workload) -> int:
    """The most of three moments: the tower loading, the decoder loading, the next image prepared
    while the tower's arena, the prompt's and the cache are still there.

    The tokenizer is opened after the graphs, and rotary tables are mapped, so loading has neither.
    While the decoder loads, its largest matrix is also mapped, and scales made of the file's exist
    a second time, in the graph that is folded.
    """
    held = _onnx_held(vlm, recipe)
    table, largest, scales = 0.0, 0.0, 0.0
    for _, shape, part, storage in _matrices(vlm, recipe):
        size = prod(shape)
        table += size * _stored_bytes(storage) if part == "embedding" else 0
        if part == "decoder":
            largest = max(largest, size * storage.bits / 8)
            scales += FLOAT_BYTES * size / storage.block if storage.quantized else 0
    ropes = {vlm.text.rope(layer) for layer in range(vlm.text.layers)}
    stored = len(ropes) * min(vlm.text.context, STORED_POSITIONS)
    rotary = stored * vlm.text.rotated * FLOAT_BYTES
    loaded = ONNX_PROCESS + sum(held.values())
    loading = ONNX_PROCESS + _onnx_loading(vlm, recipe)
    text = work.positions - vlm.image_positions(work.tiles)
    answering = TOKENIZER * vlm.text.vocab + rotary + _onnx_activations(vlm, work)
    answering += min(table, LOOK_UP * text)
    return int(max(loading, loaded + largest + scales, loaded + answering))


def _onnx_held(vlm: Vlm, recipe: Recipe) -> Mapping[str, float]:
    """Bytes of the weights of each component once they are loaded."""
    held = dict.fromkeys(COMPONENTS, 0.0)
    for _, shape, part, storage in _matrices(vlm, recipe):
        held[part] += prod(shape) * _onnx_bytes(part, storage)
    return held


def _onnx_loading(vlm: Vlm, recipe: Recipe) -> float:
    """The most that a tower takes while it loads."""
    found = 0.0
    for name, shape, part, storage in _matrices(vlm, recipe):
        if part == "vision":
            folded = storage.bits == 4 and _in_tower(vlm, name)
            factor = FOLDING if folded else _onnx_bytes(part, storage)
            found += prod(shape) * factor
    return found


def _onnx_activations(vlm: Vlm, work: Workload) -> float:
    """What a session has beside its weights when it has answered and prepares the next image."""
    tower = _onnx_tower(vlm) + ONNX_PREPARING * _pixels(vlm, work) if work.tiles else 0
    cache = work.positions * cache_bytes_per_token(vlm, FLOAT_BYTES)
    prompt = DECODER_ACTIVATIONS * work.positions * 2 * vlm.text.intermediate * FLOAT_BYTES
    return tower + cache + prompt + _onnx_scores(vlm.text, work)


def _onnx_tower(vlm: Vlm) -> float:
    """The arenas of the graphs that look at tiles."""
    vision = vlm.require_vision()
    joined = vision.tower.patches * vision.crops.inner * FLOAT_BYTES if vision.crops else 0
    return TOWER_ACTIVATIONS * _tower_matrix(vlm) + PROJECTION_ACTIVATIONS * joined


def _onnx_scores(text: Decoder, work: Workload) -> int:
    """Attention that is told who sees whom keeps a layer's scores whole; causal attention does not.

    Beside them are the biases, one for each window.
    """
    windows = {text.window(layer) for layer in range(text.layers)}
    kept = text.heads + len(windows) if text.sees_later_positions else 0
    return kept * work.positions**2 * FLOAT_BYTES


def _in_tower(vlm: Vlm, name: str) -> bool:
    """Whether a weight of "vision" is in the tower's graph; joined crops' projector has its own."""
    joins = vlm.vision is not None and vlm.vision.crops is not None
    return not (joins and name.startswith("mm."))


def _onnx_bytes(part: str, storage: Storage) -> float:
    """What a weight takes once it is loaded, by component.

    The embedding is read in place, row by row; region heads load when a place is asked for. The
    tower multiplies int8 in every quantized recipe. MatMulNBits keeps the packed codes and three
    floats a block: scales as packed, their sums, and the scales made of the file's. Half precision
    is widened.
    """
    if part in ("embedding", "region"):
        return 0
    if not storage.quantized:
        return FLOAT_BYTES
    return 1 if part == "vision" else storage.bits / 8 + 3 * FLOAT_BYTES / storage.block


def _stored_bytes(storage: Storage) -> float:
    """What a weight of the embedding takes in the file, its share of a float16 scale included."""
    return storage.bits / 8 + (2 / storage.block if storage.quantized else 0)


# --- llama.cpp on the CPU ------------------------------------------------------------------------

LLAMA_PROCESS = 84 * MB  # Python, numpy, the libraries
ONNX_LIBRARY = 32 * MB  # beside llama.cpp's
LLAMA_LAYER = 0.205 * MB  # nodes and descriptors of the graphs, for each block
REPACKED = 18 / 32
"""Bytes of a Q4_0 weight. The decoder's matrices, a tied head among them, are kept a second time,
interleaved for wide registers."""
ENCODING, ENCODED = 4.6, 2.1
"""Memory of the tower while it works and afterwards, in matrices [patches, intermediate]."""
MICRO_BATCH = 512
PROMPT_ROWS = 18
"""Memory for a micro-batch of positions, in matrices [positions, hidden] of floats."""
LLAMA_HOLDING, LLAMA_PREPARING = 1.5, 2.7
"""Memory while the tower works and while the next image is prepared, in copies of its tiles."""
CACHE_VALUE = 2  # float16


def llama_peak_bytes(vlm: Vlm, recipe: Recipe, files: Files, work: Workload) -> int:
    """The files, mapped or read, and what is laid out when they load; then the larger of two
    moments: the tower at work, or the next image prepared beside all buffers."""
    graphs = sum(size for name, size in files.items() if ".onnx" in name)
    repacked = sum(
        prod(shape) * REPACKED
        for _, shape, part, storage in _matrices(vlm, recipe)
        if part == "decoder" and storage.bits == 4 and shape[-1] % 32 == 0
    )
    layers = vlm.text.layers + (vlm.vision.tower.layers if vlm.vision else 0)
    cache = work.context * cache_bytes_per_token(vlm, CACHE_VALUE)
    process = LLAMA_PROCESS + TOKENIZER * vlm.text.vocab + layers * LLAMA_LAYER
    loaded = process + sum(files.values()) - graphs + repacked + cache
    rows = min(MICRO_BATCH, work.positions)
    prompt = PROMPT_ROWS * rows * vlm.text.hidden * FLOAT_BYTES
    if graphs:
        return int(_behind_onnx_tower(vlm, recipe, work, loaded + prompt))
    if not work.tiles:
        return int(loaded + prompt)
    pixels, tower = _pixels(vlm, work), _tower_matrix(vlm)
    encoding = LLAMA_HOLDING * pixels + ENCODING * tower
    return int(loaded + max(encoding, LLAMA_PREPARING * pixels + ENCODED * tower + prompt))


def _behind_onnx_tower(vlm: Vlm, recipe: Recipe, work: Workload, decoder: float) -> float:
    """The larger of two moments: the tower loading, before the decoder does; or the next image
    prepared beside the decoder's buffers and the tower's arena, which stays."""
    held = _onnx_held(vlm, recipe)
    loading = LLAMA_PROCESS + ONNX_LIBRARY + _onnx_loading(vlm, recipe)
    tower = _onnx_tower(vlm) + LLAMA_PREPARING * _pixels(vlm, work) if work.tiles else 0
    return max(loading, decoder + ONNX_LIBRARY + held["vision"] + held["region"] + tower)


MEMORY: Mapping[str, Memory] = {
    "onnx": Memory("onnxruntime", FLOAT_BYTES, onnx_peak_bytes),
    "gguf": Memory("llama_cpp", CACHE_VALUE, llama_peak_bytes),
}


def _matrices(vlm: Vlm, recipe: Recipe) -> Iterator[tuple[str, Shape, str, Storage]]:
    """Every weight that is more than a vector; a tied embedding is the head, too."""
    for name, shape in shapes(vlm).items():
        if len(shape) > 1:
            part, storage = component(name), recipe.storage(name, shape)
            yield name, shape, part, storage
            if part == "embedding" and vlm.text.tied:
                yield name, shape, "decoder", storage


def _pixels(vlm: Vlm, work: Workload) -> int:
    """The image's tiles as floats, kept until the answer is there."""
    if not work.tiles:
        return 0
    v = vlm.require_vision().tower
    return work.tiles * v.channels * v.image_size**2 * FLOAT_BYTES


def _tower_matrix(vlm: Vlm) -> int:
    """The widest matrix of one tile: [patches, intermediate] floats."""
    tower = vlm.require_vision().tower
    return tower.patches * tower.intermediate * FLOAT_BYTES
