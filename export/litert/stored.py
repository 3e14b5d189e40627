"""Counts how the weights of a bundle are stored."""

import math
from collections.abc import Mapping
from pathlib import Path

from export.litert.library import schema
from export.litert.networks import Kind
from export.manifest import Fallback, Quantization, Share
from export.modeling.vlm import component
from export.quantize.recipe import Recipe
from export.weights import Weights

PARTS: Mapping[Kind, str] = {
    "vision_encoder": "vision",
    "embedder": "embedding",
    "prefill_decode": "decoder",
}
SCALE_BYTES = 4


def quantization(
    weights: Weights, recipe: Recipe, models: Mapping[Kind, Path], tied: bool
) -> Quantization:
    """Returns how the weights are stored in the .tflite models. tied: the head is the embedding."""
    shares, types, fallbacks = {}, {"INT8": 0, "float32": 0}, []
    for kind, path in models.items():
        part = PARTS[kind]
        names = [n for n in weights.shapes() if component(n) == part or _is_head(n, part, tied)]
        sizes = {name: math.prod(weights.shapes()[name]) for name in names}
        asked = sum(sizes[n] for n in names if recipe.storage(n, weights.shapes()[n]).quantized)
        rounded, scales = rounded_values(path.read_bytes())
        total = sum(sizes.values())
        nbytes = rounded + SCALE_BYTES * (scales + total - rounded)
        shares[part] = Share(total, rounded, nbytes)
        types["INT8"] += rounded
        types["float32"] += total - rounded
        if rounded < asked:
            fallbacks.append(
                Fallback(
                    f"{part}: {asked - rounded} of {asked} values",
                    "8 bits",
                    "float32",
                    "LiteRT's quantizer rounds matrices of linear maps and embeddings alone",
                )
            )
    stored = {name: count for name, count in types.items() if count}
    return Quantization.of(shares, stored, tuple(fallbacks))


def _is_head(name: str, part: str, tied: bool) -> bool:
    return tied and part == "decoder" and name == "token_embd.weight"


def rounded_values(data: bytes) -> tuple[int, int]:
    """Returns how many values of a .tflite model have 8 bits, and how many scales these have."""
    found = schema.Model.GetRootAsModel(data, 0)
    counted: dict[int, tuple[int, int]] = {}  # signatures share their buffers
    for i in range(found.SubgraphsLength()):
        graph = found.Subgraphs(i)
        for tensor in (graph.Tensors(j) for j in range(graph.TensorsLength())):
            scales = tensor.Quantization()
            constant = _is_constant(found.Buffers(tensor.Buffer()))
            if constant and tensor.Type() == schema.TensorType.INT8 and scales is not None:
                shape = tensor.ShapeAsNumpy().tolist()
                counted[tensor.Buffer()] = math.prod(shape), scales.ScaleLength()
    return sum(v for v, _ in counted.values()), sum(s for _, s in counted.values())


def _is_constant(buffer: schema.Buffer) -> bool:
    return bool(buffer.DataLength() or buffer.Size())
