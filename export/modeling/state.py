"""What a decoder layer keeps of the positions it has seen."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class KeyValues:
    """A key and a value for every cached position: [B, heads, positions, head_dim] each.

    Can be cut back to any number of positions, so a common prefix of two prompts can be reused.
    """

    heads: int
    head_dim: int
    kind: Literal["key_values"] = "key_values"

    def shape(self, positions: int) -> tuple[int, int, int, int]:
        """Shape of the keys, and of the values, of one sequence."""
        return 1, self.heads, positions, self.head_dim

    @property
    def values_per_token(self) -> int:
        """Values that one more position adds."""
        return 2 * self.heads * self.head_dim

    @property
    def values_per_sequence(self) -> int:
        """Values that a sequence keeps whatever its length."""
        return 0

    @property
    def cuts_anywhere(self) -> bool:
        """Whether the state of a prefix can be had from that of a longer sequence."""
        return True


LayerState = KeyValues
"""The kinds of state that a layer may keep."""
