"""Runs the decoder graph in OpenVINO, which copies the key-value cache in every step.

A step concatenates the cached positions and the new ones into outputs of their own. Two requests
take turns, so that what one returned is what the other one reads. Blocks that grow with every step
leave holes in the C library's heap, which are given back from time to time.
"""

from pathlib import Path
from typing import Any

import numpy as np
import openvino

from export.arrays import FloatArray, IntArray
from export.modeling.decoder import Decoder
from runtimes.base import Logits
from runtimes.graphs.decoder import CACHE, cache_names, expect_cache, step_inputs
from runtimes.graphs.memory import give_back
from runtimes.openvino.graph import inputs_of, running

HELD = 4
"""Steps after which holes are given back. Behind 512 positions of smolvlm-256m they grow by 36 MB a
step at first; giving back takes 9 % of the CPU time (docs/notes/2026-11-openvino.md)."""


class OpenvinoDecoder:
    """A decoder graph that OpenVINO has compiled, with its key-value cache (GraphDecoder)."""

    def __init__(
        self, model: openvino.CompiledModel, text: Decoder, context: int, path: Path
    ) -> None:
        """`path` names the graph. Raises UserError if it has another cache than `text`."""
        self._takes, self._path = inputs_of(model), path
        expect_cache(self._takes, text, path)
        self._names = cache_names(text)
        self._request, self._other = (model.create_infer_request() for _ in range(2))
        self._mask = np.ones((1, context), np.int64)
        self._cached = self._steps = 0
        self._cache: dict[str, Any] = {
            name: np.zeros(state.shape(0), np.float32)
            for i, state in enumerate(text.states)
            for name in (f"{i}.key", f"{i}.value")
        }

    @property
    def state(self) -> FloatArray:
        """Returns the decoder's state before the output norm at the last position: [hidden]."""
        return self._last("state")

    def extend(
        self, embeds: FloatArray, past: int, image_ids: IntArray, positions: IntArray
    ) -> Logits:
        """Runs the decoder on new embeddings; returns the last logits [vocab] (GraphDecoder).

        The call after the next one overwrites the logits that this one returned.
        """
        total = past + embeds.shape[1]
        fed = step_inputs(self._takes, embeds, self._mask[:, :total], image_ids, positions)
        if "num_logits_to_keep" in self._takes:
            fed["num_logits_to_keep"] = np.array(1, np.int64)
        with running(self._path):
            if past < self._cached:
                self._discard(past)
            cache = {f"{CACHE}{name}": values for name, values in self._cache.items()}
            self._request, self._other = self._other, self._request
            self._request.infer({**fed, **cache}, share_inputs=True, share_outputs=True)
            for name in self._names:
                self._cache[name] = self._request.get_tensor(f"present.{name}")
        self._cached, self._steps = total, self._steps + 1
        if self._steps % HELD == 0:
            give_back()
        return self._last("logits")

    def _discard(self, past: int) -> None:
        """Keeps the first `past` cached positions."""
        for name, values in self._cache.items():
            self._cache[name] = np.ascontiguousarray(values.data[:, :, :past])

    def _last(self, output: str) -> FloatArray:
        """Returns an output of the last step, at its last position."""
        row: FloatArray = self._request.get_tensor(output).data[0, -1]
        return row
