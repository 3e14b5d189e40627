"""Which ggml type a tensor gets, and its values as that type's bytes.

NOT aware of files, metadata or families.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from numpy.typing import NDArray

from export.errors import UserError
from export.families.spec import Shape
from export.quantize.recipe import Method, Recipe, Storage
from export.quantize.rounding import Rounding
from export.targets import Fallback
from export.weights import FloatArray, Weights

F32, F16 = GGMLQuantizationType.F32, GGMLQuantizationType.F16
Q8_0, Q4_0 = GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0

TYPES: Mapping[int, GGMLQuantizationType] = {32: F32, 16: F16, 8: Q8_0, 4: Q4_0}
BLOCK = 32
"""Values that share one scale in Q8_0 and Q4_0; a block never spans two rows."""

# Forced by llama.cpp's converter (conversion/smolvlm.py); under 1 % of the weights.
ALWAYS_F32 = ("v.patch_embd.*", "v.position_embd.*")

# The largest magnitude a type can hold: its scale is a float16 (at most 65504).
LIMITS: Mapping[GGMLQuantizationType, float] = {
    F32: math.inf,
    F16: 65504.0,
    Q8_0: 65504.0 * 127,
    Q4_0: 65504.0 * 8,
}
CHUNK_VALUES = 2**22
"""Values of a tensor that are in memory at once: 16 MiB as float32."""


@dataclass(frozen=True)
class Planned:
    """One tensor of a GGUF file before it is read: its type decides its bytes."""

    name: str
    shape: Shape
    type: GGMLQuantizationType
    head_rows: int = 0
    """Rows of one attention head whose two halves are to be interleaved; 0: rows stay."""
    method: Method = "nearest"
    """How the scales of 4 bits are found."""

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)

    @property
    def quantized(self) -> bool:
        return self.type not in (F32, F16)

    @property
    def weight_bytes(self) -> int:
        values, size = GGML_QUANT_SIZES[self.type]
        return self.parameters // values * size


def plan(
    name: str, shape: Shape, recipe: Recipe, head_rows: int = 0
) -> tuple[Planned, Fallback | None]:
    """The tensor as the recipe wants it, or as GGUF can have it and why that differs."""
    asked = recipe.storage(name, shape)
    wanted = TYPES[asked.bits]
    got, reason = _possible(name, shape, wanted, asked)
    fallback = None
    if reason:
        block = f", blocks of {asked.block}" if asked.block != BLOCK else ""
        fallback = Fallback(name, wanted.name + block, got.name, reason)
    return Planned(name, shape, got, head_rows, asked.method), fallback


def _possible(
    name: str, shape: Shape, wanted: GGMLQuantizationType, asked: Storage
) -> tuple[GGMLQuantizationType, str]:
    if wanted is not F32 and any(fnmatchcase(name, pattern) for pattern in ALWAYS_F32):
        return F32, "llama.cpp keeps it as F32"
    if not asked.quantized:
        return wanted, ""
    if shape[-1] % BLOCK:
        return F16, f"rows of {shape[-1]} values are not whole blocks of {BLOCK}"
    if asked.block != BLOCK:
        return wanted, f"the type's blocks have {BLOCK} values"
    return wanted, ""


def packed(
    weights: Weights,
    tensor: Planned,
    rounding: Rounding = Rounding(),  # noqa: B008  (frozen)
    chunk_values: int = CHUNK_VALUES,
) -> Iterator[NDArray[Any]]:
    """The tensor's bytes in order, by groups of rows read one after another.

    Q8_0, and Q4_0 to nearest, are ggml's reference quantizers (ggml-quants.c quantize_row_*_ref,
    bit for bit). Raises UserError for values that the type cannot hold.
    """
    rows, width = tensor.shape[0], math.prod(tensor.shape[1:])
    unit = tensor.head_rows or 1
    step = max(1, chunk_values // (unit * width)) * unit
    for start in range(0, rows, step):
        values = weights.read(tensor.name, start, min(start + step, rows))
        _check(values, tensor)
        if tensor.head_rows:
            values = interleaved(values, tensor.head_rows)
        yield _quantized(values, tensor, rounding)


def _quantized(values: FloatArray, tensor: Planned, rounding: Rounding) -> NDArray[Any]:
    storage = Storage(4, BLOCK, tensor.method)
    name = tensor.name.removesuffix(".weight")
    if tensor.type is not Q4_0 or not rounding.differs(name, storage):
        return quants.quantize(values, tensor.type)
    codes, scales = rounding.four_bits(name, values.reshape(len(values), -1), storage)
    return q4_0(codes, scales)


def q4_0(codes: NDArray[np.uint8], scales: FloatArray) -> NDArray[np.uint8]:
    """Codes 0…15 [rows, blocks, 32] and scales as ggml's block_q4_0: a float16, then 16 bytes with
    the codes of both halves of a block side by side."""
    halves = codes[..., :16] | codes[..., 16:] << np.uint8(4)
    heads = scales.astype("<f2")[..., None].view(np.uint8)
    return np.concatenate([heads, halves], axis=-1).reshape(len(codes), -1)


def interleaved(values: FloatArray, head_rows: int) -> FloatArray:
    """Rows i and i + head_rows / 2 of each head become neighbours: [rows, columns] of whole heads.

    llama.cpp's llama architecture rotates neighbouring pairs (RoFormer), transformers' the halves;
    `LlamaModel.permute` of llama.cpp's converter is the same reordering.
    """
    halves = values.reshape(-1, 2, head_rows // 2, values.shape[-1])  # [heads, half, pair, columns]
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def _check(values: FloatArray, tensor: Planned) -> None:
    largest = max(float(values.max()), -float(values.min()))  # NaN if any value is
    if not largest <= LIMITS[tensor.type]:
        raise UserError(
            f"{tensor.name}: a value of magnitude {largest} does not fit {tensor.type.name} (at "
            f"most {LIMITS[tensor.type]:.0f}); check the checkpoint or export with --recipe fp32"
        )
