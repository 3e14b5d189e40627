"""The interface for reading a model's weights by canonical tensor name (the names are GGUF's)."""

from collections.abc import Mapping
from typing import Any, Protocol

from export.arrays import FloatArray
from export.modeling.tensors import Shape


class Weights(Protocol):
    """Reads the tensors of one model by GGUF's names, one at a time; keeps none in memory."""

    @property
    def synthetic(self) -> bool:
        """True if the values are random: then only latency and size mean something."""

    @property
    def origin(self) -> Mapping[str, Any]:
        """Identifies the values by JSON: hub id and revision, the files' SHA-256, or a seed."""

    def shapes(self) -> Mapping[str, Shape]:
        """Returns name -> shape of every weight tensor, in the order of use; names are GGUF's."""

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        """Returns rows [start, stop) of a tensor as C-contiguous float32; stop None: to the end."""


class Wrapper:
    """Base class for Weights that change or watch other weights.

    It passes everything on to the wrapped `weights`, except `read`, which subclasses define.
    """

    weights: Weights

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    @property
    def synthetic(self) -> bool:
        """True if the wrapped weights are random."""
        return self.weights.synthetic

    @property
    def origin(self) -> Mapping[str, Any]:
        """Identifies the values of the wrapped weights."""
        return self.weights.origin

    def shapes(self) -> Mapping[str, Shape]:
        """Returns name -> shape of every weight tensor; the names are GGUF's."""
        return self.weights.shapes()
