"""The reference implementation: runs the networks operation by operation in eager torch.

NOT aware of artifacts or formats. Everything else is compared with this; it is itself compared with
transformers (tests/export/test_run.py).
"""

import math
from collections.abc import Callable
from typing import Any, assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from export.modeling.ops import Activation, Heads, NormKind, PatchOrder, TileGrid
from export.modeling.rotary import by_axes, full_tables, patch_rope, rotary_tables
from export.torch.attention import DecoderState, GrowingState
from export.weights import Weights

Parameter = Callable[[str], Tensor]
Observer = Callable[[Tensor, tuple[str, ...]], None]
"""Is called with the input [..., columns] of each linear map and the names of its weights."""


def resident(
    weights: Weights, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Parameter:
    """Returns a function that reads each tensor once and keeps it on `device` as `dtype`.

    It is for decoding many tokens.
    """
    kept: dict[str, Tensor] = {}

    def parameter(name: str) -> Tensor:
        if name not in kept:
            kept[name] = torch.from_numpy(weights.read(name)).to(device, dtype)
        return kept[name]

    return parameter


def streaming(weights: Weights) -> Parameter:
    """Returns a function that reads a tensor anew at each call, so that few are in memory."""
    return lambda name: torch.from_numpy(weights.read(name))


class Run:
    """Carries out the operations of a network (Ops) on torch tensors, for one pass.

    `parameter` returns a weight by its GGUF name. `state` has the cache and the new positions of a
    decoder pass. `patch_grid` is the image's rows and columns of patches, for encoders of any size.
    Everything is on `device`; floats are of `dtype`, but RMS norms are computed in float32.
    `observe` is called with the input of each linear map.
    """

    def __init__(
        self,
        parameter: Parameter,
        *,
        state: DecoderState | None = None,
        patch_grid: tuple[int, int] = (0, 0),
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        observe: Observer | None = None,
    ) -> None:
        self._parameter = parameter
        self._state = state or GrowingState(device=device, dtype=dtype)
        self._patch_grid = patch_grid
        self._device = device
        self._dtype = dtype
        self._observe = observe

    def tensor(self, values: NDArray[Any]) -> Tensor:
        """Copies an array to the device as a tensor; floats become `dtype`."""
        tensor = torch.from_numpy(values)
        return tensor.to(self._device, self._dtype if tensor.is_floating_point() else None)

    def linear(self, x: Tensor, *names: str, bias: bool = False) -> Tensor:
        if self._observe is not None:
            self._observe(x, names)
        parts = []
        for name in names:
            weight = self._parameter(f"{name}.weight").flatten(1)  # [out, in]
            parts.append(
                functional.linear(x, weight, self._parameter(f"{name}.bias") if bias else None)
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def norm(self, x: Tensor, name: str, kind: NormKind, eps: float) -> Tensor:
        weight = self._parameter(f"{name}.weight")
        match kind:
            case "layer":
                bias = self._parameter(f"{name}.bias")
                return functional.layer_norm(x, weight.shape, weight, bias, eps)
            case "rms":
                normed = functional.rms_norm(x.float(), weight.shape, weight.float(), eps)
                return normed.to(x.dtype)
            case _:
                assert_never(kind)

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
        match kind:
            case "silu":
                return functional.silu(x)
            case "gelu":
                return functional.gelu(x)
            case "gelu_tanh":
                return functional.gelu(x, approximate="tanh")
            case _:
                assert_never(kind)

    def gated(self, x: Tensor, kind: Activation) -> Tensor:
        gate, up = x.chunk(2, dim=-1)
        return self.activation(gate, kind) * up

    def patches(self, pixels: Tensor, channels: int, image_size: int, patch_size: int) -> Tensor:
        side = image_size // patch_size
        whole = pixels[:, :, : side * patch_size, : side * patch_size]
        grid = whole.reshape(len(pixels), -1, side, patch_size, side, patch_size)
        return grid.permute(0, 2, 4, 1, 3, 5).reshape(len(pixels), side * side, -1)

    def unsqueeze(self, x: Tensor) -> Tensor:
        return x[None]

    def add_parameter(self, x: Tensor, name: str) -> Tensor:
        return x + self._parameter(f"{name}.weight")

    def prepend(self, x: Tensor, name: str) -> Tensor:
        row = self._parameter(f"{name}.weight").expand(len(x), 1, -1)
        return torch.cat([row, x], dim=1)

    def drop_first(self, x: Tensor) -> Tensor:
        return x[:, 1:]

    def pixel_shuffle(self, x: Tensor, grid: TileGrid, scale: int) -> Tensor:
        side, tiles = grid.side // scale, len(x)
        cells = x.view(tiles, side, scale, side, scale, grid.width)
        return cells.permute(0, 1, 3, 2, 4, 5).reshape(tiles, side * side, -1)

    def average_pool(self, x: Tensor, grid: TileGrid, scale: int) -> Tensor:
        side, tiles = grid.side // scale, len(x)
        cells = x.view(tiles, side, scale, side, scale, grid.width)
        return cells.mean(dim=(2, 4)).flatten(1, 2)

    def merge_patches(self, x: Tensor, order: PatchOrder) -> Tensor:
        return x.reshape(len(x), x.shape[1] // order.merge_size**2, -1)

    def tile_attention(self, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        query, key, value = (_heads(part, heads) for part in (q, k, v))
        return _merge(functional.scaled_dot_product_attention(query, key, value))

    def image_attention(
        self, q: Tensor, k: Tensor, v: Tensor, order: PatchOrder, windowed: bool
    ) -> Tensor:
        query, key, value = (_heads(part, order.heads) for part in (q, k, v))
        indices = _patch_indices(self._patch_grid, order.merge_size)  # [2, N]
        cos, sin = (self.tensor(table) for table in _patch_tables(indices, query.shape[-1]))
        query, key = (_rotate(part, cos, sin) for part in (query, key))
        mask = None
        if windowed and order.window is not None:
            window = indices // order.window
            same = (window[:, :, None] == window[:, None, :]).all(0)  # [N, N]
            mask = same.to(self._device)
        return _merge(functional.scaled_dot_product_attention(query, key, value, attn_mask=mask))

    def cached_attention(
        self, qkv: Tensor, layer: int, heads: Heads, norms: tuple[str, str] | None = None
    ) -> Tensor:
        rotating = heads.heads + heads.kv_heads
        split = _heads(qkv, rotating + heads.kv_heads)
        both, value = split[:, :rotating], split[:, rotating:]
        if norms is not None:
            parts = zip((both[:, : heads.heads], both[:, heads.heads :]), norms, strict=True)
            normed = [self.norm(x, name, "rms", heads.norm_eps) for x, name in parts]
            both = torch.cat(normed, dim=1)
        both = _rotate(both, *self._state.rotation(heads, qkv.shape[1]))
        query, key = both[:, : heads.heads], both[:, heads.heads :]
        key, value = self._state.extended(layer, key, value)
        return _merge(self._attended(query, key, value, heads))

    def _attended(self, query: Tensor, key: Tensor, value: Tensor, heads: Heads) -> Tensor:
        return functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=self._state.mask(heads, query.shape[2]),
            scale=heads.scale,
            enable_gqa=heads.kv_heads != heads.heads,  # few fused kernels take it
        )

    def embed(self, ids: Tensor, name: str, scale: float = 1.0) -> Tensor:
        rows = self._parameter(f"{name}.weight")[ids]
        return rows if scale == 1.0 else rows * scale

    def last_tokens(self, x: Tensor) -> Tensor:
        return self._state.last_tokens(x)


def _patch_indices(grid: tuple[int, int], merge_size: int) -> Tensor:
    """Returns row and column [2, N] of each patch of an image with `grid` rows and columns.

    The patches of a square of merge_size x merge_size follow each other.
    """
    rows, cols = grid
    indices = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij"))
    squares = indices.view(2, rows // merge_size, merge_size, cols // merge_size, merge_size)
    return squares.transpose(2, 3).reshape(2, -1)


def _patch_tables(indices: Tensor, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns rotary cosines and sines [N, size] for patches with row and column `indices` [2, N].

    Of the pairs of a head of `size` values, half rotate by the row, the other half by the column.
    """
    half = size // 2
    sections = (half // 2, half // 2)
    tables = rotary_tables(patch_rope(size), int(indices.max()) + 1)  # [edge, size / 4]
    cos, sin = (by_axes(np.tile(table, 2), indices.numpy(), sections) for table in tables)
    return full_tables(cos, sin)


def _heads(x: Tensor, heads: int) -> Tensor:
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)  # [B, heads, S, d]


def _merge(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)  # [B, S, heads * d]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the first `dims` values of each head of x [B, heads, S, d] by tables [S, dims]."""
    dims = cos.shape[-1]
    rotating = x[..., :dims]
    rotated = torch.addcmul(rotating * cos, rotating.roll(dims // 2, -1), sin)
    return rotated if dims == x.shape[-1] else torch.cat([rotated, x[..., dims:]], dim=-1)
