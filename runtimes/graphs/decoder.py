"""Defines what a library offers to run a decoder graph, and what the graph is fed."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from export.arrays import FloatArray, IntArray
from export.errors import UserError
from export.modeling.decoder import Decoder
from runtimes.base import Logits

CACHE = "past_key_values."
"""How the names of the graph's inputs begin that take a layer's cached keys or values."""


class GraphDecoder(Protocol):
    """A loaded decoder graph with its key-value cache."""

    @property
    def state(self) -> FloatArray:
        """Returns the decoder's state before the output norm at the last position: [hidden].

        Region heads read it; only graphs of models with region heads compute it.
        """

    def extend(
        self, embeds: FloatArray, past: int, image_ids: IntArray, positions: IntArray
    ) -> Logits:
        """Runs the decoder on new embeddings, which it caches; returns the last logits [vocab].

        `embeds` [1, n, width] follow the first `past` positions. `image_ids` [past + n] number the
        image of each position (runtimes.session.images); `positions` [3, n] are time, row and
        column (runtimes.session.positions). A graph is fed only those of the two that its model
        reads.
        """


def expect_cache(inputs: Collection[str], text: Decoder, path: Path) -> None:
    """Raises UserError if a graph, loaded from `path`, has another number of layers than `text`.

    `inputs` are the names of its inputs. Feeding a cache that a graph lacks would end in the
    library's own error.
    """
    needed = {f"{CACHE}{name}" for name in cache_names(text)}
    if {name for name in inputs if name.startswith(CACHE)} != needed:
        raise UserError(
            f"{path}: its cache is not that of the {text.layers} layers of which artifact.json "
            f"speaks; export it again"
        )


def cache_names(text: Decoder) -> tuple[str, ...]:
    """Returns the names of the cached tensors, behind `CACHE` in inputs, "present." in outputs."""
    return tuple(f"{i}.{kind}" for i in range(text.layers) for kind in ("key", "value"))


def step_inputs(
    takes: Collection[str],
    embeds: FloatArray,
    mask: IntArray,
    image_ids: IntArray,
    positions: IntArray,
) -> dict[str, NDArray[Any]]:
    """Returns the inputs that change with every step, without the cache, by name.

    `takes` has the names of the graph's inputs, `mask` [1, past + n] is 1 everywhere. The others
    are those of `GraphDecoder.extend`.
    """
    fed: dict[str, NDArray[Any]] = {"inputs_embeds": embeds, "attention_mask": mask}
    if "image_numbers" in takes:
        fed["image_numbers"] = image_ids[None]
    if "position_ids" in takes:
        fed["position_ids"] = np.ascontiguousarray(positions[:, None])
    return fed
