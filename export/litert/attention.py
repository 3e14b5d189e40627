"""The key-value cache and the masks of a decoder that LiteRT-LM's runner feeds.

The runner owns the cache: each pass takes the buffers of all layers and returns them with the new
positions. It also makes the mask, as only it knows which positions are an image's.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from export.litert.library import dynamic_update_slice
from export.modeling.ops import Heads
from export.torch.attention import StaticState

MASKED = -0.7 * torch.finfo(torch.float32).max
"""Is added to scores of positions that are not attended to; the runner's masks have it, too."""


def cache_name(kind: str, layer: int) -> str:
    """Returns the runner's name of a layer's buffer of keys (`kind` "k") or values ("v")."""
    return f"kv_cache_{kind}_{layer}"


@dataclass(frozen=True, eq=False)
class SliceState(StaticState):
    """The state of a decoder pass whose new positions follow each other.

    `caches` are the buffers [1, kv_heads, length, head_dim] by `cache_name`; a pass replaces them
    by those with its keys and values. `seen` [1, 1, new, length] is what is added to the scores of
    layers without a window: 0 where a new position attends to a cached one, else MASKED.
    """

    caches: dict[str, Tensor] = field(default_factory=dict)
    seen: Tensor = field(default_factory=lambda: torch.zeros(1))

    def extended(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Writes new keys and values into the layer's buffers and returns these."""
        return self._updated("k", layer, key), self._updated("v", layer, value)

    def mask(self, heads: Heads, new: int) -> Tensor | None:
        """Returns what is added to the scores of a layer: float [1, 1, new, length]."""
        if heads.window is None:
            return self.seen
        keys = torch.arange(self.cache.length)
        near = keys > self.indices[:, None] - heads.window
        return torch.where(near, self.seen, torch.tensor(MASKED))

    def _updated(self, kind: str, layer: int, new: Tensor) -> Tensor:
        name, zero = cache_name(kind, layer), torch.tensor(0, dtype=torch.int32)
        first = self.indices[0].to(torch.int32)
        updated: Tensor = dynamic_update_slice(self.caches[name], new, [zero, zero, first, zero])
        self.caches[name] = updated
        return updated
