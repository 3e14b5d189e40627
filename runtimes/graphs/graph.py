"""Defines what a library offers to run one ONNX graph of an artifact."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from export.arrays import FloatArray


class Graph(Protocol):
    """A loaded graph, whose inputs depend on the layout (export.onnx.layouts)."""

    @property
    def inputs(self) -> Mapping[str, Sequence[Any]]:
        """Returns the shape of each input, by name; an axis of any length is not an int."""

    def run(self, fed: Mapping[str, NDArray[Any]], output: str | None = None) -> FloatArray:
        """Computes one output from all inputs; None: the first one.

        Raises UserError if the library cannot run the graph.
        """
