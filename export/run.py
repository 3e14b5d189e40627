"""The reference interpreter: every operation in eager torch, float32, one call after another.

NOT aware of artifacts or formats. Everything else is compared with this; it is itself compared with
transformers (tests/export/test_run.py).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from export.families.geometry import Activation, Decoder, NormKind, Rope, Tower
from export.rotary import by_axes, patch_rope, rotary_tables
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

    `past` is the number of cached positions to keep; `keep` how many of the last positions' logits
    are wanted (0: all). `images` [past + new] numbers the positions of images from 1, text is 0;
    only decoders whose images see ahead need it. `positions` [3, new] are the new positions' time,
    row and column, for decoders with `rope_sections`. `patch_grid`: rows and columns of patches of
    the image whose patches a rotary tower gets. Everything is on `device`, floats are of `dtype`;
    RMS norms are computed in float32 whatever that is.

    Of a batch, `pads` [B] are the positions at the start of each sequence that are none, and
    `images` and `positions` have a row for each sequence, [B, …].
    """

    def __init__(
        self, parameter: Parameter, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self._parameter = parameter
        self._device = device
        self._dtype = dtype
        self._cache: Cache = {}
        self.past = 0
        self.keep = 1
        self.images: Tensor | None = None
        self.positions: Tensor | None = None
        self.patch_grid = (0, 0)
        self.pads: Tensor | None = None

    def keep_sequences(self, numbers: list[int]) -> None:
        """Go on with these sequences of the batch alone, by their places in it so far."""
        self._cache = {n: (key[numbers], value[numbers]) for n, (key, value) in self._cache.items()}
        self.pads = None if self.pads is None else self.pads[numbers]
        self.images = None if self.images is None else self.images[numbers]

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
        wide = x.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight
        return normed.to(x.dtype)

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
        counts = (text.heads, text.kv_heads, text.kv_heads)
        parts = torch.split(qkv, [n * text.head_dim for n in counts], dim=-1)
        query, key, value = (_heads(part, n) for part, n in zip(parts, counts, strict=True))
        if norms is not None:
            query = self.norm(query, norms[0], "rms", text.norm_eps)
            key = self.norm(key, norms[1], "rms", text.norm_eps)
        cos, sin = self._tables(text, layer, qkv.shape[1])
        query, key = _rotate(query, cos, sin), _rotate(key, cos, sin)
        if self.past:
            old_key, old_value = self._cache[layer]
            key = torch.cat([old_key[:, :, : self.past], key], dim=2)
            value = torch.cat([old_value[:, :, : self.past], value], dim=2)
        self._cache[layer] = (key, value)
        attended = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=self._seen(key.shape[2], text, layer),
            scale=text.attention_scale,
            enable_gqa=text.kv_heads != text.heads,  # few fused kernels take it
        )
        return _merge(attended)

    def _tables(self, text: Decoder, layer: int, new: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the new positions: [new, head_dim / 2], of a batch [B, 1, …]."""
        rope = text.rope(layer)
        if text.rope_sections is not None:
            assert self.positions is not None, "a decoder with rope_sections needs positions"
            return self._tables_by_axes(rope, text.rope_sections)
        tables = rotary_tables(rope, self.past + new)
        if self.pads is None:
            cos, sin = (table[self.past :] for table in tables)
        else:
            places = np.arange(self.past, self.past + new) - self.pads.cpu().numpy()[:, None]
            cos, sin = (table[places.clip(0)][:, None] for table in tables)  # pads: any position
        return self.tensor(cos), self.tensor(sin)

    def _tables_by_axes(self, rope: Rope, sections: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        assert self.positions is not None
        positions = self.positions.cpu().numpy()  # [3, new], of a batch [B, 3, new]
        tables = rotary_tables(rope, int(positions.max()) + 1)
        if positions.ndim == 2:
            cos, sin = (by_axes(table, positions, sections) for table in tables)
        else:
            cos, sin = (
                np.stack([by_axes(table, own, sections) for own in positions])[:, None]
                for table in tables
            )
        return self.tensor(cos), self.tensor(sin)

    def _seen(self, total: int, text: Decoder, layer: int) -> Tensor:
        """Which positions [total] each new one sees: [new, total], of a batch [B, 1, …]."""
        keys = torch.arange(total, device=self._device)
        queries = keys[self.past :, None]
        seen = keys <= queries
        if text.sees_ahead and self.images is not None:
            image = self.images[..., self.past :, None]
            seen = seen | (image == self.images[..., None, :]) & (image > 0)
        window = text.window(layer)
        if window is not None:
            seen = seen & (keys > queries - window)
        if self.pads is None:
            return seen
        # What is none sees itself: nothing at all would be no number, and spread.
        seen = seen & (keys >= self.pads[:, None, None]) | (keys == queries)
        return seen[:, None]

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


def _patch_tables(places: Tensor, size: int) -> Iterator[NDArray[np.float32]]:
    """Cosines and sines [N, size / 2] that turn heads of `size` by a patch's row in half of the
    pairs, by its column in the other."""
    half = size // 2
    sections = (half // 2, half // 2)
    for table in rotary_tables(patch_rope(size), int(places.max()) + 1):  # [edge, size / 4]
        yield by_axes(np.tile(table, 2), places.numpy(), sections)


def _heads(x: Tensor, heads: int) -> Tensor:
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)  # [B, heads, S, d]


def _merge(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)  # [B, S, heads * d]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = cos.shape[-1]
    first, second, kept = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([first * cos - second * sin, second * cos + first * sin, kept], dim=-1)
