"""What all layers of one pass over a decoder share: how its new positions turn, what they see.

Each kind of layer's is computed once and kept. NOT aware of weights, heads or the cache itself.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from export.families.geometry import Decoder, Rope
from export.rotary import by_axes, of_both_halves, rotary_tables
from export.weights import FloatArray

Turns = tuple[Tensor, Tensor]
"""Factors of heads and of their partners (rotary.of_both_halves): [new, dims], of a batch
[B, 1, new, dims]."""
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Step:
    """New positions after `past` cached ones.

    `images` [past + new] numbers the positions of images from 1, text is 0; only decoders whose
    images see ahead need it. `positions` [3, new] are the new positions' time, row and column, for
    decoders with `rope_sections`. Of a batch, `images` and `positions` have a row for each
    sequence, [B, …], and `pads` [B] positions of each are none, behind the first `common` ones.
    """

    past: int = 0
    images: Tensor | None = None
    positions: Tensor | None = None
    pads: Tensor | None = None
    common: int = 0
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    _kept: dict[Hashable, object] = field(default_factory=dict, init=False, repr=False)

    def after(self, past: int, positions: Tensor) -> "Step":
        """The next step of the same sequences: one more id each, which is text."""
        images = None if self.images is None else functional.pad(self.images, (0, 1))
        return replace(self, past=past, images=images, positions=positions)

    def of(self, sequences: list[int]) -> "Step":
        """With these sequences of the batch alone."""
        pads, images = (None if x is None else x[sequences] for x in (self.pads, self.images))
        return replace(self, pads=pads, images=images)

    def turns(self, text: Decoder, layer: int, new: int) -> Turns:
        """How far each new position turns in this layer."""
        rope, sections = text.rope(layer), text.rope_sections
        return self._once((rope, new), lambda: self._turns(rope, sections, new))

    def seen(self, text: Decoder, layer: int, new: int) -> Tensor | None:
        """Which positions each new one sees: [new, past + new], of a batch [B, 1, …].

        None where all see all.
        """
        window, ahead = text.window(layer), text.sees_ahead
        return self._once((window, ahead, new), lambda: self._seen(window, ahead, new))

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]  # type: ignore[return-value]

    def _turns(self, rope: Rope, sections: tuple[int, ...] | None, new: int) -> Turns:
        if sections is not None:
            cos, sin = self._turns_by_axes(rope, sections)
        elif self.pads is None:
            cos, sin = (table[self.past :] for table in rotary_tables(rope, self.past + new))
        else:
            places = np.arange(self.past, self.past + new) - self.pads.cpu().numpy()[:, None]
            tables = rotary_tables(rope, self.past + new)
            cos, sin = (table[places.clip(0)][:, None] for table in tables)  # pads: any position
        cos, sin = of_both_halves(cos, sin)
        return self._floats(cos), self._floats(sin)

    def _turns_by_axes(
        self, rope: Rope, sections: tuple[int, ...]
    ) -> tuple[FloatArray, FloatArray]:
        assert self.positions is not None, "a decoder with rope_sections needs positions"
        positions = self.positions.cpu().numpy()  # [3, new], of a batch [B, 3, new]
        tables = rotary_tables(rope, int(positions.max()) + 1)
        if positions.ndim == 2:
            cos, sin = (by_axes(table, positions, sections) for table in tables)
        else:
            cos, sin = (
                np.stack([by_axes(table, own, sections) for own in positions])[:, None]
                for table in tables
            )
        return cos, sin

    def _floats(self, values: FloatArray) -> Tensor:
        return torch.from_numpy(values).to(self.device, self.dtype)

    def _seen(self, window: int | None, ahead: bool, new: int) -> Tensor | None:
        keys = torch.arange(self.past + new, device=self.device)
        if new == 1 and self.pads is None and (window is None or len(keys) <= window):
            return None
        queries = keys[self.past :, None]
        seen = keys <= queries
        if ahead and self.images is not None:
            image = self.images[..., self.past :, None]
            seen = seen | (image == self.images[..., None, :]) & (image > 0)
        if window is not None:
            seen = seen & (keys > queries - window)
        if self.pads is None:
            return seen
        # What is none sees itself: nothing at all would be no number, and spread.
        one = (keys < self.common) | (keys >= self.common + self.pads[:, None, None])
        seen = seen & one | (keys == queries)
        return seen[:, None]
