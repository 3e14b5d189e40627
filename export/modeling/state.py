"""Describes what a decoder layer caches of the positions it has processed."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class KeyValues:
    """The cache of one attention layer: keys and values [B, heads, positions, head_dim].

    It can be cut back to any number of positions, so two prompts can share that of a common prefix.
    """

    heads: int
    head_dim: int
    kind: Literal["key_values"] = "key_values"

    def shape(self, positions: int) -> tuple[int, int, int, int]:
        """Returns the shape of the keys of one sequence, which is also that of the values."""
        return 1, self.heads, positions, self.head_dim

    @property
    def values_per_token(self) -> int:
        """How many numbers one more position adds to the cache."""
        return 2 * self.heads * self.head_dim

    @property
    def values_per_sequence(self) -> int:
        """How many numbers the cache of a sequence has at any length: none."""
        return 0

    @property
    def cuts_anywhere(self) -> bool:
        """Whether the cache of a longer sequence can be cut back to that of any prefix."""
        return True


LayerState = KeyValues
"""The kinds of cache that a layer may have."""
