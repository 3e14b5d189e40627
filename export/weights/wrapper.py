"""Weights in front of other weights. NOT aware of what is done with their values."""

from collections.abc import Mapping
from typing import Any

from export.families.spec import Shape
from export.weights import Weights


class Wrapper:
    """All of export.weights.Weights but `read`, which says what is done to the weights behind."""

    weights: Weights

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    @property
    def synthetic(self) -> bool:
        """As of the weights behind it; so are the other members."""
        return self.weights.synthetic

    @property
    def origin(self) -> Mapping[str, Any]:
        """What identifies the values."""
        return self.weights.origin

    def shapes(self) -> Mapping[str, Shape]:
        """Every canonical tensor."""
        return self.weights.shapes()
