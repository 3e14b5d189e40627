"""The reference interpreter: every operation in eager torch, float32, one call after another.

NOT aware of artifacts or formats. Everything else is compared with this; it is itself compared with
transformers (tests/export/test_run.py).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from export.families.geometry import Activation, Decoder, NormKind, Tower
from export.rotary import by_axes, of_both_halves, patch_rope, rotary_tables
from export.torch.step import Step
from export.weights import Weights

Parameter = Callable[[str], Tensor]
Cache = dict[int, tuple[Tensor, Tensor]]


def resident(
    weights: Weights, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Parameter:
    """Parameters that are read once and kept: for decoding many tokens."""
    kept: dict[str, Tensor] = {}

    def parameter(name: str) -> Tensor:
        if name not in kept:
            kept[name] = torch.from_numpy(weights.read(name)).to(device, dtype)
        return kept[name]

    return parameter


def streaming(weights: Weights) -> Parameter:
    """Parameters that are read at each use and dropped: one pass in the memory of one tensor."""
    return lambda name: torch.from_numpy(weights.read(name))


class Run:
    """Ops over torch tensors, with a key-value cache that `cached_attention` appends to.

    `step` says which cached positions are kept and what is new; `keep` how many of the last
    positions' logits are wanted (0: all). `patch_grid`: rows and columns of patches of the image
    whose patches a rotary tower gets. Everything is on `device`, floats are of `dtype`; RMS norms
    are computed in float32 whatever that is.
    """

    def __init__(
        self, parameter: Parameter, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self._parameter = parameter
        self._device = device
        self._dtype = dtype
        self._cache: Cache = {}
        self.step = Step(device=device, dtype=dtype)
        self.keep = 1
        self.patch_grid = (0, 0)

    def begin(
        self,
        past: int,
        images: NDArray[np.int64] | None = None,
        positions: NDArray[np.int64] | None = None,
        pads: NDArray[np.int64] | None = None,
    ) -> None:
        """What comes next follows `past` cached positions, as `pads` does; see Step."""
        given = (None if x is None else self.tensor(x) for x in (images, positions, pads))
        images_, positions_, pads_ = given
        self.step = Step(past, images_, positions_, pads_, past, self._device, self._dtype)

    def keep_sequences(self, numbers: list[int]) -> None:
        """Go on with these sequences of the batch alone, by their places in it so far."""
        self._cache = {n: (key[numbers], value[numbers]) for n, (key, value) in self._cache.items()}
        self.step = self.step.of(numbers)

    def spread(self, sequences: int) -> None:
        """Go on with as many sequences, which all begin with the cached one."""
        self._cache = {
            n: (key.expand(sequences, -1, -1, -1), value.expand(sequences, -1, -1, -1))
            for n, (key, value) in self._cache.items()
        }

    def tensor(self, values: NDArray[Any]) -> Tensor:
        """On the device; floats in its precision."""
        tensor = torch.from_numpy(values)
        return tensor.to(self._device, self._dtype if tensor.is_floating_point() else None)

    def linear(self, x: Tensor, *names: str, bias: bool = False) -> Tensor:
        parts = []
        for name in names:
            weight = self._parameter(f"{name}.weight").flatten(1)  # [out, in]
            parts.append(
                functional.linear(x, weight, self._parameter(f"{name}.bias") if bias else None)
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def norm(self, x: Tensor, name: str, kind: NormKind, eps: float) -> Tensor:
        weight = self._parameter(f"{name}.weight")
        if kind == "layer":
            return functional.layer_norm(
                x, weight.shape, weight, self._parameter(f"{name}.bias"), eps
            )
        return functional.rms_norm(x.float(), weight.shape, weight.float(), eps).to(x.dtype)

    def add_norm(
        self, x: Tensor, residual: Tensor, name: str, kind: NormKind, eps: float
    ) -> tuple[Tensor, Tensor]:
        total = residual + x
        return self.norm(total, name, kind, eps), total

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def fourier(self, x: Tensor) -> Tensor:
        angle = 2 * math.pi * x
        return torch.cat([angle.cos(), angle.sin()], dim=-1)

    def activation(self, x: Tensor, kind: Activation) -> Tensor:
        if kind == "silu":
            return functional.silu(x)
        return functional.gelu(x, approximate="tanh" if kind == "gelu_tanh" else "none")

    def gated(self, x: Tensor, kind: Activation) -> Tensor:
        gate, up = x.chunk(2, dim=-1)
        return self.activation(gate, kind) * up

    def patches(self, pixels: Tensor, vision: Tower) -> Tensor:
        if vision.positions == "rotary":
            return pixels[None]
        size, side = vision.patch_size, vision.side
        seen = pixels[:, :, : side * size, : side * size]
        grid = seen.reshape(len(pixels), -1, side, size, side, size)
        return grid.permute(0, 2, 4, 1, 3, 5).reshape(len(pixels), side * side, -1)

    def add_parameter(self, x: Tensor, name: str) -> Tensor:
        return x + self._parameter(f"{name}.weight")

    def pixel_shuffle(self, x: Tensor, vision: Tower, scale: int) -> Tensor:
        side, tiles = vision.side // scale, len(x)
        grid = x.view(tiles, side, scale, side, scale, vision.hidden)
        return grid.permute(0, 1, 3, 2, 4, 5).reshape(tiles, side * side, -1)

    def average_pool(self, x: Tensor, vision: Tower, scale: int) -> Tensor:
        side, tiles = vision.side // scale, len(x)
        grid = x.view(tiles, side, scale, side, scale, vision.hidden)
        return grid.mean(dim=(2, 4)).flatten(1, 2)

    def merge_squares(self, x: Tensor, vision: Tower) -> Tensor:
        return x.reshape(len(x), x.shape[1] // vision.square**2, -1)

    def patch_attention(self, q: Tensor, k: Tensor, v: Tensor, vision: Tower, layer: int) -> Tensor:
        query, key, value = (_heads(part, vision.heads) for part in (q, k, v))
        seen = None
        if vision.positions == "rotary":
            places = _places(self.patch_grid, vision.square)  # [2, N]
            cos, sin = (self.tensor(table) for table in _patch_tables(places, query.shape[-1]))
            query, key = (_rotate(part, cos, sin) for part in (query, key))
            if (reach := vision.reach(layer)) is not None:
                window = places // reach
                same = (window[:, :, None] == window[:, None, :]).all(0)  # [N, N]
                seen = same.to(self._device)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return _merge(attended)

    def cached_attention(
        self, qkv: Tensor, layer: int, text: Decoder, norms: tuple[str, str] | None = None
    ) -> Tensor:
        turning = text.heads + text.kv_heads
        heads = _heads(qkv, turning + text.kv_heads)
        both, value = heads[:, :turning], heads[:, turning:]
        if norms is not None:
            parts = zip((both[:, : text.heads], both[:, text.heads :]), norms, strict=True)
            both = torch.cat([self.norm(x, name, "rms", text.norm_eps) for x, name in parts], dim=1)
        both = _rotate(both, *self.step.turns(text, layer, qkv.shape[1]))
        query, key = both[:, : text.heads], both[:, text.heads :]
        if past := self.step.past:
            old_key, old_value = self._cache[layer]
            key = torch.cat([old_key[:, :, :past], key], dim=2)
            value = torch.cat([old_value[:, :, :past], value], dim=2)
        self._cache[layer] = (key, value)
        attended = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=self.step.seen(text, layer, qkv.shape[1]),
            scale=text.attention_scale,
            enable_gqa=text.kv_heads != text.heads,  # few fused kernels take it
        )
        return _merge(attended)

    def embed(self, ids: Tensor, name: str, scale: float = 1.0) -> Tensor:
        rows = self._parameter(f"{name}.weight")[ids]
        return rows if scale == 1.0 else rows * scale

    def wanted(self, x: Tensor) -> Tensor:
        return x[:, -self.keep :]


def _places(grid: tuple[int, int], square: int) -> Tensor:
    """Row and column [2, N] of the patches of an image, which come by squares."""
    rows, cols = grid
    places = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij"))
    squares = places.view(2, rows // square, square, cols // square, square)
    return squares.transpose(2, 3).reshape(2, -1)


def _patch_tables(places: Tensor, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines [N, size] that turn heads of `size` by a patch's row in half of the
    pairs, by its column in the other."""
    half = size // 2
    sections = (half // 2, half // 2)
    tables = rotary_tables(patch_rope(size), int(places.max()) + 1)  # [edge, size / 4]
    cos, sin = (by_axes(np.tile(table, 2), places.numpy(), sections) for table in tables)
    return of_both_halves(cos, sin)


def _heads(x: Tensor, heads: int) -> Tensor:
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)  # [B, heads, S, d]


def _merge(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)  # [B, S, heads * d]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Heads [B, heads, S, d] whose first dimensions turn by these tables [S, dims]."""
    dims = cos.shape[-1]
    turning = x[..., :dims]
    turned = torch.addcmul(turning * cos, turning.roll(dims // 2, -1), sin)
    return turned if dims == x.shape[-1] else torch.cat([turned, x[..., dims:]], dim=-1)
