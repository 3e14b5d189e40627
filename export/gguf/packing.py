"""Chooses the ggml type of a tensor, and packs its values into that type's bytes."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from numpy.typing import NDArray

from export.ahead import ahead
from export.arrays import FloatArray
from export.gguf import ggml, mixes
from export.gguf.arrange import Piece
from export.gguf.mixes import Mix
from export.manifest import Fallback
from export.modeling.decoder import Decoder
from export.quantize import finite
from export.quantize.recipe import Method, Recipe, Storage
from export.quantize.rounding import Rounding
from export.weights import Weights

F32, F16 = GGMLQuantizationType.F32, GGMLQuantizationType.F16
Q8_0, Q4_0 = GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0

TYPES: Mapping[int, GGMLQuantizationType] = {32: F32, 16: F16, 8: Q8_0, 4: Q4_0}
BLOCK = 32
"""Values that share one scale in Q8_0 and Q4_0; a block never spans two rows."""
Floats = Mapping[str, Literal[32, 16]]
"""Patterns of names -> float bits that llama.cpp requires (families.spec.Gguf.floats)."""

# Where a block of the type has float16 numbers, as bytes from its start (ggml-common.h).
SCALES: Mapping[GGMLQuantizationType, slice] = {
    Q4_0: slice(0, 2),
    Q8_0: slice(0, 2),
    GGMLQuantizationType.Q5_0: slice(0, 2),
    GGMLQuantizationType.Q5_1: slice(0, 4),  # and the block's minimum
    mixes.IQ4_NL: slice(0, 2),
    mixes.Q4_K: slice(0, 4),
    mixes.Q5_K: slice(0, 4),
    mixes.Q6_K: slice(208, 210),
}
CHUNK_VALUES = 2**20
"""Values in a group that is read and packed at once: so few that copies fit a processor's cache."""


@dataclass(frozen=True)
class Planned:
    """One tensor of a GGUF file, whose type is chosen and whose values are not read yet.

    piece: its name and shape, and the model's tensor that it is made from. method: how Q4_0 finds
    its scales; other types ignore it.
    """

    piece: Piece
    type: GGMLQuantizationType
    method: Method = "nearest"

    @property
    def quantized(self) -> bool:
        return self.type not in (F32, F16)

    @property
    def weight_bytes(self) -> int:
        values, size = GGML_QUANT_SIZES[self.type]
        return self.piece.parameters // values * size


def plan(piece: Piece, recipe: Recipe, floats: Floats) -> tuple[Planned, Fallback | None]:
    """Chooses a tensor's type: the recipe's, or another if llama.cpp or the shape requires it.

    `floats`: patterns of canonical names -> float bits that llama.cpp requires. Returns the tensor,
    and a Fallback with the reason if it is not stored as the recipe says (otherwise None).
    """
    asked = recipe.storage(piece.source, piece.source_shape)
    wanted = TYPES[asked.bits]
    got, reason = _possible(piece, wanted, asked, floats)
    fallback = None
    if reason:
        block = f", blocks of {asked.block}" if asked.block != BLOCK else ""
        fallback = Fallback(piece.name, wanted.name + block, got.name, reason)
    return Planned(piece, got, asked.method), fallback


def plan_mixed(
    piece: Piece, recipe: Recipe, mix: Mix, floats: Floats, text: Decoder
) -> tuple[Planned, Fallback | None]:
    """Chooses a tensor's type and returns it as `plan` does, but by llama.cpp's mixture `mix`.

    Tensors that the recipe leaves as floats are planned by `plan`. `text`: the model's decoder.
    """
    if not recipe.storage(piece.source, piece.source_shape).quantized:
        return plan(piece, recipe, floats)
    wanted = mixes.wanted(mix, piece.name, text)
    if bits := _kept(piece, floats):
        got, reason = TYPES[bits], _keeps(bits)
    else:
        got = mixes.possible(wanted, piece.shape)
        reason = f"rows of {piece.shape[-1]} values are not whole blocks of its type"
    fallback = Fallback(piece.name, wanted.name, got.name, reason) if got is not wanted else None
    return Planned(piece, got), fallback


def _kept(piece: Piece, floats: Floats) -> Literal[32, 16] | None:
    """Returns the float bits that llama.cpp requires of a tensor; None: it takes any type."""
    found = (bits for pattern, bits in floats.items() if fnmatchcase(piece.source, pattern))
    return next(found, None)


def _keeps(bits: int) -> str:
    return f"llama.cpp requires {TYPES[bits].name}"


def _possible(
    piece: Piece, wanted: GGMLQuantizationType, asked: Storage, floats: Floats
) -> tuple[GGMLQuantizationType, str]:
    if (bits := _kept(piece, floats)) is not None and asked.bits < bits:
        return TYPES[bits], _keeps(bits)
    if not asked.quantized:
        return wanted, ""
    if piece.shape[-1] % BLOCK:
        return F16, f"rows of {piece.shape[-1]} values are not whole blocks of {BLOCK}"
    if asked.block != BLOCK:
        return wanted, f"the type's blocks have {BLOCK} values"
    return wanted, ""


def packed(
    weights: Weights,
    tensor: Planned,
    rounding: Rounding = Rounding(),  # noqa: B008  (frozen)
    chunk_values: int = CHUNK_VALUES,
) -> Iterator[NDArray[Any]]:
    """Reads a tensor and yields its packed values by groups of rows, from first to last.

    `chunk_values`: about how many values a group has. Two groups are packed at once, in threads.
    Without calibration, Q8_0, and Q4_0 with the method "nearest", equal ggml's reference quantizers
    (ggml-quants.c quantize_row_*_ref) bit for bit. Raises UserError for a value that the type
    cannot hold.
    """
    piece = tensor.piece
    rows, width = piece.source_shape[0], math.prod(piece.source_shape[1:])
    step = max(1, chunk_values // (piece.unit * width)) * piece.unit

    def made(start: int) -> NDArray[Any]:
        values = weights.read(piece.source, start, min(start + step, rows))
        return finite.packed(piece.name, values, lambda values: _packed(values, tensor, rounding))[
            0
        ]

    yield from ahead(made, range(0, rows, step))


def _packed(values: FloatArray, tensor: Planned, rounding: Rounding) -> list[NDArray[Any]]:
    """Returns some rows in the file's order and type, then numbers of them that must be finite.

    For quantized types these are the float16 numbers of their blocks.
    """
    arranged = tensor.piece.arrange(values)
    found = _quantized(arranged, tensor, rounding)
    if not tensor.quantized:
        return [found]
    blocks = found.reshape(-1, GGML_QUANT_SIZES[tensor.type][1])
    scales = np.ascontiguousarray(blocks[:, SCALES[tensor.type]]).view("<f2")
    # ggml sums squares in float32, and where they overflow Q6_K silently becomes 0.
    return [found, scales, np.square(arranged).sum(-1)]


def _quantized(values: FloatArray, tensor: Planned, rounding: Rounding) -> NDArray[Any]:
    if tensor.type not in TYPES.values():
        return ggml.quantize(values, tensor.type)
    storage = Storage(4, BLOCK, tensor.method)
    name = tensor.piece.source.removesuffix(".weight")
    if tensor.type is not Q4_0 or not rounding.differs(name, storage):
        return quants.quantize(values, tensor.type)
    codes, scales = rounding.four_bits(name, values.reshape(len(values), -1), storage)
    return q4_0(codes, scales)


def q4_0(codes: NDArray[np.uint8], scales: FloatArray) -> NDArray[np.uint8]:
    """Packs codes 0…15 [rows, blocks, 32] and scales [rows, blocks] as ggml's Q4_0: [rows, bytes].

    Each block is its float16 scale and then 16 bytes; a byte has a code of the block's first half
    in its low bits, and one of the second half in its high bits.
    """
    halves = codes[..., :16] | codes[..., 16:] << np.uint8(4)
    heads = scales.astype("<f2")[..., None].view(np.uint8)
    return np.concatenate([heads, halves], axis=-1).reshape(len(codes), -1)
