"""Key-value caches and attention as ExecuTorch's own operators, llama::custom_sdpa among them.

Attention without a mask reads only the filled part of the cache. With a mask it reads all of it,
so a prefix whose positions see each other (Decoder.prefix) has none: it comes in a call of its own.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from export.executorch.tracing import OPERATORS
from export.modeling.decoder import Decoder
from export.modeling.ops import Heads
from export.modeling.state import LayerState
from export.torch.attention import Rotation, StaticCache, StaticState

T = TypeVar("T")
MASKED = -1e9
"""Is added to scores of positions that are not attended to. Not -inf: the operator takes blocks of
positions, and a block that is masked whole would be NaN."""


class OperatorCache(StaticCache):
    """A key-value cache of fixed size in the layout of llama::update_cache.

    A layer's keys, and its values, are [1, length, kv_heads, head_dim]. `prefix`: Decoder.prefix.
    """

    def __init__(self, text: Decoder, length: int) -> None:
        super().__init__(text, length)
        self.prefix = text.prefix

    def shape(self, state: LayerState) -> tuple[int, ...]:
        """Returns the shape of a layer's buffer of keys, which is also that of its values."""
        return 1, self.length, state.heads, state.head_dim

    def state(
        self, indices: Tensor, positions: Tensor | None, image_ids: Tensor | None
    ) -> "OperatorState":
        """Returns the state of a pass over this cache; new positions must follow each other."""
        return OperatorState(self, indices, positions, image_ids)


@dataclass(frozen=True, eq=False)
class OperatorState(StaticState):
    """The state of a decoder pass whose attention is llama::custom_sdpa.

    The new positions `indices` must follow each other. If the cache has a prefix whose positions
    see each other, they are either all of the prefix or none of it.
    """

    cache: OperatorCache
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def attended(
        self, layer: int, heads: Heads, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """Adds keys and values to the cache and returns what the new positions read from it.

        All are [1, new, heads, head_dim]; the result has as many heads as `query`.
        """
        keys = self.cache.get_buffer(f"key_{layer}")
        values = self.cache.get_buffer(f"value_{layer}")
        start = self._once("start", self._start)
        OPERATORS.update_cache(key, keys, start)
        OPERATORS.update_cache(value, values, start)
        ahead = heads.bidirectional and self.image_ids is not None
        if ahead and self.cache.prefix and heads.window is None:
            full, causal = (
                sdpa(query, keys, values, start, None, causal=causal, scale=heads.scale)
                for causal in (False, True)
            )
            return torch.where(self._once("prefix", self._in_prefix), full, causal)
        mask = None
        if heads.window is not None or ahead:
            mask = self._once(
                (heads.window, heads.bidirectional), lambda: self._scores(heads, query.shape[1])
            )
        return sdpa(query, keys, values, start, mask, causal=mask is None, scale=heads.scale)

    def turned(self, heads: Heads, new: int) -> Rotation:
        """Returns the rotary factors of the new positions for all heads: [new, 1, dims]."""

        def made() -> Rotation:
            cos, sin = self.rotation(heads, new)
            return cos[:, None], sin[:, None]

        return self._once((heads.rope, heads.sections), made)

    def _start(self) -> int:
        start = self.indices[0].item()
        torch._check(start >= 0)  # type: ignore[no-untyped-call]
        end = start + self.indices.shape[0]
        torch._check(end <= self.cache.length)  # type: ignore[no-untyped-call]
        return start  # type: ignore[return-value] # a symbol while torch.export traces

    def _in_prefix(self) -> Tensor:
        """Returns whether each new position is in the prefix: bool [1, new, 1, 1]."""
        assert self.image_ids is not None
        return (self.image_ids[self.indices] > 0)[None, :, None, None]

    def _scores(self, heads: Heads, new: int) -> Tensor:
        mask = self.mask(heads, new)
        assert mask is not None
        return masking(mask)

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made


def masking(seen: Tensor) -> Tensor:
    """Returns what is added to scores: 0 where the mask `seen` (bool) is true, else MASKED."""
    return (1.0 - seen.to(torch.float32)) * MASKED


def sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    start: int,
    mask: Tensor | None,
    *,
    causal: bool,
    scale: float | None = None,
) -> Tensor:
    """Returns softmax(query key^T * scale + mask) value, of the shape of `query`.

    All are [1, positions, heads, head_dim]. The queries are at the positions from `start` on; of
    keys and values, only those before the last query are read unless there is a mask [queries,
    keys]. `causal`: a position attends to itself and those before it.
    """
    attended: Tensor = OPERATORS.custom_sdpa(query, key, value, start, mask, 0.0, causal, scale)
    return attended
