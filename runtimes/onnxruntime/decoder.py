"""Runs the decoder graph of CPU layouts, with its key-value cache.

A layer's cached keys (or values) are input and output of the graph in the same buffer, which is as
long as the context. So GroupQueryAttention appends in place and no step copies the cache.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort

from export.arrays import FloatArray, IntArray
from export.errors import UserError
from export.modeling.decoder import Decoder
from runtimes.base import Logits
from runtimes.onnxruntime.graph import inputs_of

CACHE = "past_key_values."
"""How the names of the graph's inputs begin that take a layer's cached keys or values."""


def expect_cache(graph: ort.InferenceSession, text: Decoder, path: Path) -> None:
    """Raises UserError if the graph, loaded from `path`, has another number of layers than `text`.

    Binding a cache that a graph lacks would end in ONNX Runtime's own error.
    """
    needed = {f"{CACHE}{i}.{kind}" for i in range(text.layers) for kind in ("key", "value")}
    if {name for name in inputs_of(graph) if name.startswith(CACHE)} != needed:
        raise UserError(
            f"{path}: its cache is not that of the {text.layers} layers of which artifact.json "
            f"speaks; export it again"
        )


class OnnxDecoder(Protocol):
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


class HostDecoder:
    """Runs the decoder graph on the CPU, with its key-value cache in host memory (OnnxDecoder)."""

    def __init__(self, graph: ort.InferenceSession, text: Decoder, context: int) -> None:
        self._graph, self._takes = graph, inputs_of(graph)
        self._mask = np.ones((1, context), np.int64)
        self._binding = graph.io_binding()
        self._cache = self._bind_cache(text, context)
        if "num_logits_to_keep" in self._takes:
            self._binding.bind_cpu_input("num_logits_to_keep", np.array(1, np.int64))
        # Bound once: IOBinding.get_outputs would wrap every output, the cache too, at each step.
        self._logits = np.zeros((1, 1, text.vocab), np.float32)
        self._last: FloatArray = self._logits[0, 0]
        self._bound = self._bind_output("logits", self._logits)
        self.state = np.zeros(text.hidden, np.float32)
        if "state" in {output.name for output in graph.get_outputs()}:
            self._bound_state = self._bind_output("state", self.state[None, None])

    def extend(
        self, embeds: FloatArray, past: int, image_ids: IntArray, positions: IntArray
    ) -> Logits:
        """Runs the decoder on new embeddings; returns the last logits [vocab] (OnnxDecoder).

        The next call overwrites the logits that this one returned.
        """
        binding = self._binding
        binding.bind_cpu_input("inputs_embeds", embeds)
        binding.bind_cpu_input("attention_mask", self._mask[:, : past + embeds.shape[1]])
        if "image_numbers" in self._takes:
            binding.bind_cpu_input("image_numbers", image_ids[None])
        if "position_ids" in self._takes:
            binding.bind_cpu_input("position_ids", np.ascontiguousarray(positions[:, None]))
        self._graph.run_with_iobinding(binding)
        return self._last

    def _bind_output(self, name: str, values: FloatArray) -> ort.OrtValue:
        """Makes an array the buffer of a graph output; returns the OrtValue that holds it."""
        bound = ort.OrtValue.ortvalue_from_numpy(values)
        self._binding.bind_ortvalue_output(name, bound)
        return bound

    def _bind_cache(self, text: Decoder, context: int) -> list[ort.OrtValue]:
        """Binds a buffer for each layer's keys and one for its values, as graph input and output.

        Returns the buffers.
        """
        cache = []
        for i, state in enumerate(text.states):
            shape = state.shape(context)
            for kind in ("key", "value"):
                # Not cleared: the system allocates a page only when a position is written to it.
                buffer = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "cpu")
                self._binding.bind_ortvalue_input(f"{CACHE}{i}.{kind}", buffer)
                self._binding.bind_ortvalue_output(f"present.{i}.{kind}", buffer)
                cache.append(buffer)
        return cache
