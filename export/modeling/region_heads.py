"""Heads by which a decoder reads and answers points and boxes in an image (Moondream 2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from export.modeling.ops import Ops
from export.modeling.tensors import Tensors, linear

T = TypeVar("T")
Head = Literal["coord", "size"]
"""coord: one coordinate; size: width and height together."""


@dataclass(frozen=True)
class RegionHeads:
    """Hyperparameters of two heads: "coord" for one coordinate, "size" for a width and a height.

    A number x enters the decoder as cos and sin of 2 pi x W (random Fourier features, Tancik et al.
    2020), mapped linearly to an embedding; *_features is their number of frequencies. The decoder
    answers a number as logits over *_bins intervals (size_bins for each of width and height), from
    a feed-forward network with `inner` hidden values.
    """

    inner: int
    coord_features: int
    coord_bins: int
    size_features: int
    size_bins: int

    def tensors(self, hidden: int) -> Tensors:
        """Yields name and shape of every weight tensor; `hidden` is the decoder's width."""
        for head, numbers, features, bins in (
            ("coord", 1, self.coord_features, self.coord_bins),
            ("size", 2, self.size_features, self.size_bins),
        ):
            yield f"region.{head}_features.weight", (features, numbers)
            yield from linear(f"region.{head}_encoder", hidden, 2 * features)
            yield from linear(f"region.{head}_decoder.0", self.inner, hidden)
            yield from linear(f"region.{head}_decoder.1", numbers * bins, self.inner)

    def embed(self, ops: Ops[T], head: Head, numbers: T) -> T:
        """Maps coordinates [n, 1], or widths and heights [n, 2], to embeddings [n, hidden]."""
        features = ops.fourier(ops.linear(numbers, f"region.{head}_features"))
        return ops.linear(features, f"region.{head}_encoder", bias=True)

    def logits(self, ops: Ops[T], head: Head, state: T) -> T:
        """Maps decoder states [n, hidden] to logits over bins [n, coord_bins] of a coordinate.

        The head "size" gives [n, 2 * size_bins]: logits of the width, then of the height.
        """
        inner = ops.linear(state, f"region.{head}_decoder.0", bias=True)
        inner = ops.activation(inner, "gelu_tanh")
        return ops.linear(inner, f"region.{head}_decoder.1", bias=True)

    def problems(self) -> Iterator[str]:
        """Yields a message for each invalid hyperparameter, with its name in config.json."""
        for name, value in vars(self).items():
            if not 1 <= value <= 1 << 20:
                yield f"region {name} is {value}, expected 1 to {1 << 20}"
