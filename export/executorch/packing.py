"""Rounds weights as a recipe says and packs them into the modules of `quantized`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.ahead import ahead
from export.arrays import FloatArray
from export.errors import UserError
from export.executorch.quantized import QuantizedEmbedding, QuantizedLinear, SideBySide
from export.quantize import blocks, finite
from export.quantize.recipe import Recipe, Storage
from export.quantize.rounding import Rounding
from export.weights import Weights

GROUP_VALUES = 1 << 20
"""Values that are read and rounded at once."""
LEAST_SCALE = np.finfo(np.float32).smallest_normal
Arrays = list[NDArray[Any]]


class Ledger(Protocol):
    """Notes how the weights of a model are stored."""

    def add(self, part: str, parameters: int, kind: str, nbytes: int) -> None:
        """Notes a weight of a component: number of values, type in the file, and bytes."""


class Packing:
    """Makes the modules of one network's weights: `recipe` says in how many bits.

    part: the component under which `ledger` notes each weight. A `name` is a canonical tensor name
    without ".weight". At 8 bits, each row of a matrix has one scale, in float32. At 4 bits, blocks
    have positive scales in bfloat16, in embeddings scales of any sign in float16.
    """

    def __init__(
        self,
        weights: Weights,
        recipe: Recipe,
        ledger: Ledger,
        part: str,
        rounding: Rounding = Rounding(),  # noqa: B008  (frozen)
    ) -> None:
        self._weights, self._recipe, self._ledger, self._part = weights, recipe, ledger, part
        self._rounding = rounding
        self._shapes = weights.shapes()

    def linear(self, names: Sequence[str], bias: bool) -> nn.Module:
        """Returns the linear map of all rows of the weights `names`, one below the other."""
        storages = {self._storage(name) for name in names}
        if len(storages) > 1:  # a mixed recipe
            return SideBySide([self.linear([name], bias) for name in names])
        storage, added = storages.pop(), self._bias(names) if bias else None
        match storage.bits:
            case 32:
                return self._dense(names, added)
            case 8:
                codes, scales = self._rows(names, _eight_bit_rows)
                self._note(names, "int8 by rows", codes.numel() + 4 * scales.numel())
                return QuantizedLinear(codes, scales[:, 0], added)
            case 4:
                codes, scales = self._rows(names, self._four_bits(storage))
                kind = f"int4 in blocks of {storage.block}"
                self._note(names, kind, codes.numel() // 2 + 2 * scales.numel())
                return QuantizedLinear(codes, scales, added)
            case _:
                raise _unsupported(names[0], storage)

    def embedding(self, name: str) -> nn.Module:
        """Returns the module that looks up rows of `{name}.weight`."""
        storage, columns = self._storage(name), self._columns(name)
        match storage.bits:
            case 32:
                rows = torch.from_numpy(self._weights.read(f"{name}.weight"))
                self._note([name], "float32", 4 * rows.numel())
                return nn.Embedding(rows.shape[0], rows.shape[1], _weight=rows)
            case 8:
                codes, scales = self._rows([name], _eight_bit_rows)
                self._note([name], "int8 by rows", codes.numel() + 4 * scales.numel())
                return QuantizedEmbedding(codes, scales[:, 0], columns)
            case 4:
                codes, scales = self._rows([name], self._four_bit_halves(storage))
                kind = f"int4 in blocks of {storage.block}"
                self._note([name], kind, codes.numel() + 2 * scales.numel())
                return QuantizedEmbedding(codes, scales, columns)
            case _:
                raise _unsupported(name, storage)

    def _storage(self, name: str) -> Storage:
        return self._recipe.storage(f"{name}.weight", self._shapes[f"{name}.weight"])

    def _columns(self, name: str) -> int:
        return prod(self._shapes[f"{name}.weight"][1:])

    def _bias(self, names: Sequence[str]) -> Tensor:
        parts = [self._weights.read(f"{name}.bias") for name in names]
        for part in parts:
            self._ledger.add(self._part, part.size, "float32", part.nbytes)
        return torch.from_numpy(np.concatenate(parts))

    def _dense(self, names: Sequence[str], bias: Tensor | None) -> nn.Module:
        parts = [self._weights.read(f"{name}.weight") for name in names]
        weight = torch.from_numpy(np.concatenate([part.reshape(len(part), -1) for part in parts]))
        self._note(names, "float32", 4 * weight.numel())
        made = nn.Linear(weight.shape[1], len(weight), bias=bias is not None, device="meta")
        made.weight = nn.Parameter(weight, requires_grad=False)
        if bias is not None:
            made.bias = nn.Parameter(bias, requires_grad=False)
        return made

    def _note(self, names: Sequence[str], kind: str, nbytes: int) -> None:
        parameters = sum(prod(self._shapes[f"{name}.weight"]) for name in names)
        self._ledger.add(self._part, parameters, kind, nbytes)

    def _rows(
        self, names: Sequence[str], pack: Callable[[str, FloatArray], Arrays]
    ) -> tuple[Tensor, Tensor]:
        """Packs the weights' rows by groups: returns codes and scales of all rows."""
        step = max(1, GROUP_VALUES // self._columns(names[0]))
        groups = [
            (name, start, min(start + step, self._shapes[f"{name}.weight"][0]))
            for name in names
            for start in range(0, self._shapes[f"{name}.weight"][0], step)
        ]

        def packed(group: tuple[str, int, int]) -> Sequence[NDArray[Any]]:
            name, start, stop = group
            rows = self._weights.read(f"{name}.weight", start, stop)
            rows = rows.reshape(len(rows), -1)
            return finite.packed(f"{name}.weight", rows, lambda rows: pack(name, rows))

        codes, scales = zip(*ahead(packed, groups), strict=True)
        return torch.from_numpy(np.concatenate(codes)), torch.from_numpy(np.concatenate(scales))

    def _four_bits(self, storage: Storage) -> Callable[[str, FloatArray], Arrays]:
        rounding = replace(self._rounding, positive=True)

        def pack(name: str, rows: FloatArray) -> Arrays:
            codes, scales = rounding.four_bits(name, rows, storage)
            signed, scales = normal(codes.view(np.int8) - np.int8(8), scales)
            return [signed.reshape(len(rows), -1), _bfloat16(scales)]

        return pack

    def _four_bit_halves(self, storage: Storage) -> Callable[[str, FloatArray], Arrays]:
        def pack(name: str, rows: FloatArray) -> Arrays:
            codes, scales = self._rounding.four_bits(name, rows, storage)
            flat = codes.reshape(len(rows), -1)
            return [flat[:, 0::2] << np.uint8(4) | flat[:, 1::2], scales.astype(np.float16)]

        return pack


def normal(codes: NDArray[np.int8], scales: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """Gives blocks whose scale is 0 or subnormal, which XNNPACK does not load, zeros and scale 1.

    codes [rows, blocks, block], scales [rows, blocks].
    """
    tiny = scales < LEAST_SCALE
    return np.where(tiny[..., None], np.int8(0), codes), np.where(tiny, np.float32(1), scales)


def _eight_bit_rows(_: str, rows: FloatArray) -> Arrays:
    codes, scales = blocks.eight_bit_rows(rows)
    whole, scales = normal(codes[:, None], scales[:, None])
    return [whole[:, 0], scales]


def _bfloat16(scales: FloatArray) -> FloatArray:
    """Rounds to the values that bfloat16 has, and returns them as float32."""
    return torch.from_numpy(scales).bfloat16().float().numpy()


def _unsupported(name: str, storage: Storage) -> UserError:
    return UserError(
        f"{name}.weight: the recipe stores it in {storage.bits} bits, but ExecuTorch programs have "
        f"weights of 32, 8 or 4 bits; use --recipe fp32, int8 or int4"
    )
