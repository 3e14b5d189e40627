"""Quantized layers as torch modules whose graphs XNNPACK and ExecuTorch's kernels take.

A linear layer rounds the inputs of each position to 8 bits when it runs (dynamic quantization); its
weights are codes with scales. XNNPACK recognizes the operations that `QuantizedLinear` traces to
and computes one product of integers (backends/xnnpack/partition/config/gemm_configs.py of the
library). Loading `quantized_decomposed::embedding_*` needs `executorch.kernels.quantized`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.executorch.tracing import QUANTIZED as OPS

INT8 = (-128, 127, torch.int8)
INT4 = (-8, 7, torch.int8)


class QuantizedLinear(nn.Module):
    """Multiplies x [..., in] by quantized weights: [..., out].

    codes: int8 [out, padded in]. scales: float32 [out], or [out, blocks] for codes -8…7; a weight
    is code * scale. XNNPACK loads only scales that are normal positive numbers, and it keeps the
    scales of blocks in bfloat16. bias: float32 [out].
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor
    bias: Tensor | None

    def __init__(self, codes: Tensor, scales: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(scales.shape, dtype=torch.int8))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        padding = self.codes.shape[1] - x.shape[-1]
        if padding:
            x = functional.pad(x, (0, padding))
        return functional.linear(_in_8_bits(x), self._weight(), self.bias)

    def _weight(self) -> Tensor:
        if self.scales.dim() == 1:
            values = OPS.dequantize_per_channel(self.codes, self.scales, self.zeros, 0, *INT8)
        else:
            block = self.codes.shape[1] // self.scales.shape[1]
            values = OPS.dequantize_per_channel_group(
                self.codes, self.scales, self.zeros, *INT4, block, torch.float32
            )
        return values  # type: ignore[no-any-return]


class QuantizedEmbedding(nn.Module):
    """Looks up rows of quantized weights: token ids int64 [1, S] -> float32 [1, S, columns].

    codes: int8 [rows, padded columns] with scales float32 [rows]; or two codes + 8 in a byte, uint8
    [rows, padded columns / 2] with the first in the high half, with scales [rows, blocks] in
    float32 or float16. A weight is code * scale.
    """

    codes: Tensor
    scales: Tensor

    def __init__(self, codes: Tensor, scales: Tensor, columns: int) -> None:
        super().__init__()
        self._columns = columns
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)

    def forward(self, ids: Tensor) -> Tensor:
        halves = self.codes.dtype == torch.uint8
        look_up = OPS.embedding_4bit.dtype if halves else OPS.embedding_byte.dtype
        least, most, _ = INT4 if halves else INT8
        rows: Tensor = look_up(self.codes, self.scales, None, least, most, ids, dtype=torch.float32)
        return rows if rows.shape[-1] == self._columns else rows[..., : self._columns]


class SideBySide(nn.Module):
    """Applies several linear layers to x and concatenates their results along the last axis."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self._layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([layer(x) for layer in self._layers], dim=-1)


def _in_8_bits(x: Tensor) -> Tensor:
    """Rounds the values of each position to 256 levels between their least and largest, or 0."""
    scales, zeros = OPS.choose_qparams_per_token_asymmetric(x, torch.int8)
    codes = OPS.quantize_per_token(x, scales, zeros, *INT8)
    rounded: Tensor = OPS.dequantize_per_token(codes, scales, zeros, *INT8, torch.float32)
    return rounded
