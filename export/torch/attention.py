"""Key-value caches, rotary tables and attention masks for decoder passes in torch.

`GrowingCache` appends and takes batches; the reference runtime uses it. `StaticCache` has a fixed
size and takes positions as tensors, so that torch.export can trace a pass.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from export.arrays import FloatArray
from export.modeling.decoder import Decoder
from export.modeling.ops import Heads
from export.modeling.rotary import Rope, by_axes, full_tables, rotary_tables
from export.modeling.state import LayerState

Rotation = tuple[Tensor, Tensor]
"""Cosines and signed sines for a head's values (rotary.full_tables): [new, dims], for a batch
[B, 1, new, dims]."""
T = TypeVar("T")


class DecoderState(Protocol):
    """What attention needs in one decoder pass: rotation and mask of new positions, and the cache.

    The cache has the keys and values of earlier positions.
    """

    def rotation(self, heads: Heads, new: int) -> Rotation:
        """Returns the rotary factors of the `new` positions for a layer with these heads."""

    def mask(self, heads: Heads, new: int) -> Tensor | None:
        """Returns which positions each new one attends to: bool [new, positions], True if it does.

        For a batch it is [B, 1, new, positions]. None: each attends to all. `positions` counts
        cached and new ones.
        """

    def extended(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Adds the new keys and values of a layer to its cache, and returns all of them.

        The results are [B, kv_heads, positions, head_dim].
        """

    def last_tokens(self, x: Tensor) -> Tensor:
        """Selects the last positions of x [B, S, H], those whose logits are needed."""


class GrowingCache:
    """A key-value cache that grows: [B, kv_heads, positions, head_dim] for each layer."""

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def extended(self, layer: int, past: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Cuts a layer's cache to its first `past` positions, appends new keys and values.

        Returns the whole keys and values, which are then the cached ones.
        """
        if past:
            old_key, old_value = self._layers[layer]
            key = torch.cat([old_key[:, :, :past], key], dim=2)
            value = torch.cat([old_value[:, :, :past], value], dim=2)
        self._layers[layer] = (key, value)
        return key, value

    def select(self, sequences: list[int]) -> None:
        """Removes all sequences of the batch except those with these indices."""
        self._layers = {
            n: (key[sequences], value[sequences]) for n, (key, value) in self._layers.items()
        }

    def expand(self, sequences: int) -> None:
        """Repeats the cache of one sequence for `sequences` sequences that all begin with it."""
        self._layers = {
            n: (key.expand(sequences, -1, -1, -1), value.expand(sequences, -1, -1, -1))
            for n, (key, value) in self._layers.items()
        }

    def clear(self) -> None:
        """Empties the cache."""
        self._layers.clear()


@dataclass(frozen=True, eq=False)
class GrowingState:
    """The state of a decoder pass whose new positions follow the first `past` ones of `cache`.

    `image_ids` [past + new] is the number of the image at each position, from 1, and 0 for text;
    only bidirectional attention reads it. `positions` [3, new] are the time, row and column of the
    new positions, for decoders with rope_sections. In a batch, both have a row for each sequence,
    [B, …], and `pads` [B] counts the padding positions of each, which follow the first `common`
    positions. `keep`: logits are computed for so many of the last positions (0: for all).
    """

    cache: GrowingCache = field(default_factory=GrowingCache)
    past: int = 0
    image_ids: Tensor | None = None
    positions: Tensor | None = None
    pads: Tensor | None = None
    common: int = 0
    keep: int = 1
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    _made: dict[Hashable, object] = field(default_factory=dict, init=False, repr=False)

    def next_token(self, past: int, positions: Tensor) -> "GrowingState":
        """Returns the state for a pass over one more text token of each sequence.

        `past` positions are cached by then; `positions` are those of the token.
        """
        ids = None if self.image_ids is None else functional.pad(self.image_ids, (0, 1))
        return replace(self, past=past, image_ids=ids, positions=positions)

    def select(self, sequences: list[int]) -> "GrowingState":
        """Returns the state with only these sequences of the batch; changes the cache in place."""
        self.cache.select(sequences)
        pads, ids = (None if x is None else x[sequences] for x in (self.pads, self.image_ids))
        return replace(self, pads=pads, image_ids=ids)

    def extended(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Adds new keys and values to the layer's cache and returns all of them."""
        return self.cache.extended(layer, self.past, key, value)

    def last_tokens(self, x: Tensor) -> Tensor:
        """Selects the last `keep` positions of x [B, S, H] (0: all), whose logits are needed."""
        return x[:, -self.keep :]

    def rotation(self, heads: Heads, new: int) -> Rotation:
        """Returns the rotary factors of the new positions, computed once per kind of layer."""
        key = (heads.rope, new)
        return self._once(key, lambda: self._rotation(heads.rope, heads.sections, new))

    def mask(self, heads: Heads, new: int) -> Tensor | None:
        """Returns which positions each new one attends to (bool), or None if it is all of them.

        The mask is computed once per kind of layer.
        """
        window, bidirectional = heads.window, heads.bidirectional
        key = (window, bidirectional, new)
        return self._once(key, lambda: self._mask(window, bidirectional, new))

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]  # type: ignore[return-value]

    def _rotation(self, rope: Rope, sections: tuple[int, ...] | None, new: int) -> Rotation:
        if sections is not None:
            cos, sin = self._rotation_by_axes(rope, sections)
        elif self.pads is None:
            cos, sin = (table[self.past :] for table in rotary_tables(rope, self.past + new))
        else:
            rows = np.arange(self.past, self.past + new) - self.pads.cpu().numpy()[:, None]
            tables = rotary_tables(rope, self.past + new)
            cos, sin = (table[rows.clip(0)][:, None] for table in tables)  # padding: any position
        cos, sin = full_tables(cos, sin)
        return self._tensor(cos), self._tensor(sin)

    def _rotation_by_axes(
        self, rope: Rope, sections: tuple[int, ...]
    ) -> tuple[FloatArray, FloatArray]:
        assert self.positions is not None, "a decoder with rope_sections needs positions"
        positions = self.positions.cpu().numpy()  # [3, new], of a batch [B, 3, new]
        tables = rotary_tables(rope, int(positions.max()) + 1)
        if positions.ndim == 2:
            cos, sin = (by_axes(table, positions, sections) for table in tables)
        else:
            cos, sin = (
                np.stack([by_axes(table, each, sections) for each in positions])[:, None]
                for table in tables
            )
        return cos, sin

    def _tensor(self, values: FloatArray) -> Tensor:
        return torch.from_numpy(values).to(self.device, self.dtype)

    def _mask(self, window: int | None, bidirectional: bool, new: int) -> Tensor | None:
        keys = torch.arange(self.past + new, device=self.device)
        if new == 1 and self.pads is None and (window is None or len(keys) <= window):
            return None
        queries = keys[self.past :, None]
        seen = keys <= queries
        if bidirectional and self.image_ids is not None:
            image = self.image_ids[..., self.past :, None]
            seen = seen | (image == self.image_ids[..., None, :]) & (image > 0)
        if window is not None:
            seen = seen & (keys > queries - window)
        if self.pads is None:
            return seen
        # Padding sees itself: softmax over a row that is masked whole would be NaN and spread.
        real = (keys < self.common) | (keys >= self.common + self.pads[:, None, None])
        seen = seen & real | (keys == queries)
        return seen[:, None]


class StaticCache(nn.Module):
    """A key-value cache of fixed size: buffers for `length` positions of one sequence.

    It also holds the rotary tables of these positions.
    """

    def __init__(self, text: Decoder, length: int) -> None:
        super().__init__()
        self.length = length
        self._ropes = tuple(dict.fromkeys(text.rope(i) for i in range(text.layers)))
        for layer, state in enumerate(text.states):
            for name in ("key", "value"):
                zeros = torch.zeros(self.shape(state))
                self.register_buffer(f"{name}_{layer}", zeros, persistent=False)
        for n, rope in enumerate(self._ropes):
            for name, table in zip(("cos", "sin"), rotary_tables(rope, length), strict=True):
                self.register_buffer(f"{name}_{n}", torch.from_numpy(table), persistent=False)

    def shape(self, state: LayerState) -> tuple[int, ...]:
        """Returns the shape of a layer's buffer of keys, which is also that of its values."""
        return state.shape(self.length)

    def state(
        self, indices: Tensor, positions: Tensor | None, image_ids: Tensor | None
    ) -> "StaticState":
        """Returns the state of a pass over this cache (StaticState)."""
        return StaticState(self, indices, positions, image_ids)

    def tables(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """Returns the cosines and sines [length, pairs] for the rotary settings of a layer."""
        n = self._ropes.index(rope)
        return self.get_buffer(f"cos_{n}"), self.get_buffer(f"sin_{n}")

    def extended(
        self, layer: int, indices: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Writes new keys and values into a layer's buffers at the positions `indices` [new].

        Returns the whole buffers.
        """
        buffers = self.get_buffer(f"key_{layer}"), self.get_buffer(f"value_{layer}")
        for buffer, new in zip(buffers, (key, value), strict=True):
            buffer.index_copy_(2, indices, new)
        return buffers


@dataclass(frozen=True, eq=False)
class StaticState:
    """The state of a decoder pass that torch.export can trace, over a cache of fixed size.

    `indices` int64 [new] says where in the cache the new positions go. `positions` int64 [3, new]
    are their time, row and column, for decoders with rope_sections. `image_ids` int64 [length] is
    the number of the image at each position, from 1, and 0 for text, for bidirectional attention.
    """

    cache: StaticCache
    indices: Tensor
    positions: Tensor | None = None
    image_ids: Tensor | None = None

    def extended(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Writes new keys and values into the layer's cache and returns its whole buffers."""
        return self.cache.extended(layer, self.indices, key, value)

    def last_tokens(self, x: Tensor) -> Tensor:
        """Selects the last position of x [1, S, H]: only its logits are needed."""
        return x[:, -1:]

    def rotation(self, heads: Heads, new: int) -> Rotation:
        """Returns the rotary factors of the new positions for a layer with these heads."""
        cos, sin = (self._rows(table, heads.sections) for table in self.cache.tables(heads.rope))
        return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)

    def _rows(self, table: Tensor, sections: tuple[int, ...] | None) -> Tensor:
        if sections is None:
            return table[self.indices]
        assert self.positions is not None, "a decoder with rope_sections needs positions"
        columns = torch.split(table, list(sections), dim=-1)
        rows = [part[axis] for part, axis in zip(columns, self.positions, strict=True)]
        return torch.cat(rows, dim=-1)

    def mask(self, heads: Heads, new: int) -> Tensor | None:
        """Returns which of all cache positions each new one attends to: bool [new, length]."""
        keys = torch.arange(self.cache.length, device=self.indices.device)
        queries = self.indices[:, None]
        seen = keys <= queries
        if heads.bidirectional and self.image_ids is not None:
            image = self.image_ids[self.indices][:, None]
            seen = seen | (image == self.image_ids[None]) & (image > 0)
        if heads.window is not None:
            seen = seen & (keys > queries - heads.window)
        return seen
