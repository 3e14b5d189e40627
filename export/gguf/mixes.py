"""Chooses a decoder's tensor types as llama.cpp's mixtures do (src/llama-quant.cpp).

A mixture, such as Q4_K_M, gives some tensors more bits than others. llama.cpp's users know the
mixtures by name, so this reproduces them exactly, including the replacements for types that a
tensor's shape does not allow.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from export.modeling.decoder import Decoder
from export.modeling.tensors import Shape

Q4_K, Q5_K, Q6_K = GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q5_K, GGMLQuantizationType.Q6_K
IQ4_NL, Q8_0 = GGMLQuantizationType.IQ4_NL, GGMLQuantizationType.Q8_0
LAYER = re.compile(r"blk\.(\d+)\.")
ATTENTION_VALUES = ("blk.*.attn_v.weight", "blk.*.attn_qkv.weight")
DOWN = "blk.*.ffn_down.weight"


@dataclass(frozen=True)
class Mix:
    """One of llama.cpp's mixtures: a type for most tensors, and which tensors get more bits.

    base: the type of most tensors. graphs: name of the recipe for ONNX graphs in the same artifact,
    because ONNX lacks ggml's types. some_more: attn_v and ffn_down get Q6_K in the first and last
    eighth of the layers and in every third layer between them. first_more: attn_v gets Q5_K in
    models with at least four query heads for each key head, and ffn_down gets it in the first
    eighth of the layers.
    """

    file_type: LlamaFileType
    base: GGMLQuantizationType
    graphs: str
    some_more: bool = False
    first_more: bool = False


MIXES: Mapping[str, Mix] = {
    "q4_k_m": Mix(LlamaFileType.MOSTLY_Q4_K_M, Q4_K, "int4", some_more=True),
    "q5_k_m": Mix(LlamaFileType.MOSTLY_Q5_K_M, Q5_K, "int8", some_more=True),
    "q6_k": Mix(LlamaFileType.MOSTLY_Q6_K, Q6_K, "int8"),
    "iq4_nl": Mix(LlamaFileType.MOSTLY_IQ4_NL, IQ4_NL, "int4", first_more=True),
}
"""Name of the recipe -> mixture."""

# Replacements if rows are not whole blocks of 256 values (tensor_type_fallback in llama-quant.cpp).
NARROW: Mapping[GGMLQuantizationType, GGMLQuantizationType] = {
    Q4_K: GGMLQuantizationType.Q5_0,
    Q5_K: GGMLQuantizationType.Q5_1,
    Q6_K: Q8_0,
}


def wanted(mix: Mix, name: str, text: Decoder) -> GGMLQuantizationType:
    """Returns the type that the mixture gives to a matrix, whatever the matrix's shape.

    `name`: of the GGUF tensor. `text`: the model's decoder. Matrices of a vision tower get `base`.
    """
    if name == ("token_embd.weight" if text.tied else "output.weight"):
        return Q6_K
    layer = LAYER.match(name)
    if layer is None:
        return mix.base
    number, of = int(layer[1]), text.layers
    values = any(fnmatchcase(name, pattern) for pattern in ATTENTION_VALUES)
    down = fnmatchcase(name, DOWN)
    if mix.some_more and (values or down) and _more(number, of):
        return Q6_K
    few_heads = text.heads // text.kv_heads >= 4
    if mix.first_more and ((values and few_heads) or (down and number < of // 8)):
        return Q5_K
    return mix.base


def possible(kind: GGMLQuantizationType, shape: Shape) -> GGMLQuantizationType:
    """Returns `kind`, or llama.cpp's replacement if rows of `shape` are not whole blocks of it."""
    for fitting in (kind, NARROW.get(kind, kind)):
        if shape[-1] % GGML_QUANT_SIZES[fitting][0] == 0:
            return fitting
    return GGMLQuantizationType.F16


def _more(layer: int, layers: int) -> bool:
    """Whether a layer gets more bits, by llama.cpp's function use_more_bits (llama-quant.cpp)."""
    first, last = layers // 8, 7 * layers // 8
    return layer < first or layer >= last or (layer - first) % 3 == 2
