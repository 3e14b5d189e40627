"""Runs the decoder graph of CPU layouts, with its key-value cache.

A layer's cached keys (or values) are input and output of the graph in the same buffer, which is as
long as the context. So GroupQueryAttention appends in place and no step copies the cache.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from export.arrays import FloatArray, IntArray
from export.modeling.decoder import Decoder
from runtimes.base import Logits
from runtimes.graphs.decoder import CACHE, step_inputs
from runtimes.onnxruntime.graph import inputs_of

OpenGraph = Callable[[int], ort.InferenceSession]
"""Loads the decoder graph for a number of threads."""


class HostDecoder:
    """Runs the decoder graph on the CPU, with its key-value cache in host memory (GraphDecoder)."""

    def __init__(self, open_with: OpenGraph, threads: int, text: Decoder, context: int) -> None:
        self._open_with, self._threads = open_with, threads
        self._mask = np.ones((1, context), np.int64)
        # Not cleared: the system allocates a page only when a position is written to it.
        self._cache = {
            f"{i}.{kind}": ort.OrtValue.ortvalue_from_shape_and_type(
                state.shape(context), np.float32, "cpu"
            )
            for i, state in enumerate(text.states)
            for kind in ("key", "value")
        }
        # Bound once: IOBinding.get_outputs would wrap every output, the cache too, at each step.
        self._last = np.zeros(text.vocab, np.float32)
        self.state = np.zeros(text.hidden, np.float32)
        self._outputs = {
            "logits": ort.OrtValue.ortvalue_from_numpy(self._last[None, None]),
            "state": ort.OrtValue.ortvalue_from_numpy(self.state[None, None]),
        }
        self._loaded: _Loaded | None = self._load()

    def extend(
        self, embeds: FloatArray, past: int, image_ids: IntArray, positions: IntArray
    ) -> Logits:
        """Runs the decoder on new embeddings; returns the last logits [vocab] (GraphDecoder).

        The next call overwrites the logits that this one returned.
        """
        self._loaded = self._loaded or self._load()
        graph, binding, takes = self._loaded
        mask = self._mask[:, : past + embeds.shape[1]]
        for name, values in step_inputs(takes, embeds, mask, image_ids, positions).items():
            binding.bind_cpu_input(name, values)
        graph.run_with_iobinding(binding)
        return self._last

    def use_threads(self, threads: int) -> None:
        """Frees the graph; the next step loads it again, for another number of threads.

        ONNX Runtime cannot change the threads of a loaded graph. The cache stays.
        """
        self._threads, self._loaded = threads, None

    def _cached(self) -> Iterator[tuple[str, FloatArray]]:
        """Yields each layer's keys, then its values, by name: views [1, heads, context, size]."""
        for name, buffer in self._cache.items():
            yield name, buffer.numpy()  # on the CPU no copy

    def _load(self) -> "_Loaded":
        """Loads the graph and binds what does not change between steps."""
        graph = self._open_with(self._threads)
        binding, takes = graph.io_binding(), inputs_of(graph)
        for name, buffer in self._cache.items():
            binding.bind_ortvalue_input(f"{CACHE}{name}", buffer)
            binding.bind_ortvalue_output(f"present.{name}", buffer)
        for output in graph.get_outputs():
            if output.name in self._outputs:
                binding.bind_ortvalue_output(output.name, self._outputs[output.name])
        if "num_logits_to_keep" in takes:
            binding.bind_cpu_input("num_logits_to_keep", np.array(1, np.int64))
        return _Loaded(graph, binding, takes)


class _Loaded(NamedTuple):
    """A loaded graph, the buffers bound to it, and the names of its inputs."""

    graph: ort.InferenceSession
    binding: ort.IOBinding
    takes: frozenset[str]
