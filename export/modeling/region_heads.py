"""Heads that read and write regions of an image: points and boxes (Moondream 2)."""

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
    """Fourier features and bins of one coordinate ("coord") and of a width and a height ("size").

    A number x enters as cos | sin of 2 pi x W through a linear map (random Fourier features, Tancik
    et al. 2020); it leaves as logits over bins, from a feed-forward that is `inner` wide. Bins of
    "size" are counted for one of its two numbers.
    """

    inner: int
    coord_features: int
    coord_bins: int
    size_features: int
    size_bins: int

    def tensors(self, hidden: int) -> Tensors:
        """Names and shapes; `hidden` is the decoder's width."""
        for head, numbers, features, bins in (
            ("coord", 1, self.coord_features, self.coord_bins),
            ("size", 2, self.size_features, self.size_bins),
        ):
            yield f"region.{head}_features.weight", (features, numbers)
            yield from linear(f"region.{head}_encoder", hidden, 2 * features)
            yield from linear(f"region.{head}_decoder.0", self.inner, hidden)
            yield from linear(f"region.{head}_decoder.1", numbers * bins, self.inner)

    def embed(self, ops: Ops[T], head: Head, numbers: T) -> T:
        """Coordinates [n, 1], or widths and heights [n, 2], as embeddings [n, hidden]."""
        features = ops.fourier(ops.linear(numbers, f"region.{head}_features"))
        return ops.linear(features, f"region.{head}_encoder", bias=True)

    def logits(self, ops: Ops[T], head: Head, state: T) -> T:
        """Decoder states [n, hidden] -> logits [n, bins]; of "size" width's, then height's."""
        inner = ops.linear(state, f"region.{head}_decoder.0", bias=True)
        inner = ops.activation(inner, "gelu_tanh")
        return ops.linear(inner, f"region.{head}_decoder.1", bias=True)

    def problems(self) -> Iterator[str]:
        """What is wrong with the numbers, in the words of config.json."""
        for name, value in vars(self).items():
            if not 1 <= value <= 1 << 20:
                yield f"region {name} is {value}, expected 1 to {1 << 20}"
