"""Where the values of a model come from, under canonical names."""

from collections.abc import Mapping
from typing import Any, Protocol

from export.arrays import FloatArray
from export.modeling.tensors import Shape


class Weights(Protocol):
    """Canonical tensors of one model, read one at a time: nothing is held between calls."""

    @property
    def synthetic(self) -> bool:
        """True when the values are random: latency and size mean something, accuracy does not."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """What identifies the values: hub id, revision, files, seed (JSON values, no paths)."""

    def shapes(self) -> Mapping[str, Shape]:
        """Every canonical tensor: `export.modeling.vlm.shapes(vlm)`, checked on opening."""

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        """Rows [start, stop) of a tensor as float32, C-contiguous; transforms applied."""


class Wrapper:
    """All of Weights but `read`, which says what is done to the weights behind."""

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
