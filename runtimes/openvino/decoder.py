"""Runs prompts in OpenVINO and the steps of an answer in ONNX Runtime, on one key-value cache.

A prompt of 512 tokens takes OpenVINO a quarter to a half of ONNX Runtime's time on CPUs with VNNI,
but a step takes it three to five times as long (docs/notes/2026-11-openvino.md). The cache is that
of ONNX Runtime; OpenVINO gets a copy of what is cached, and what it adds is copied back.
"""

from pathlib import Path

import numpy as np
import openvino

from export.arrays import FloatArray, IntArray
from export.modeling.decoder import Decoder
from runtimes.base import Logits
from runtimes.graphs.decoder import CACHE, step_inputs
from runtimes.graphs.memory import give_back
from runtimes.onnxruntime.decoder import HostDecoder, OpenGraph
from runtimes.openvino.graph import inputs_of, running

PROMPT = 48
"""Tokens from which on OpenVINO runs them. With AMX, smolvlm-256m int4 is as fast in both libraries
at 32 tokens behind nothing, and at 48 behind 900 positions."""


class OpenvinoDecoder(HostDecoder):
    """A decoder graph, loaded into both libraries, with its key-value cache (GraphDecoder)."""

    def __init__(
        self,
        model: openvino.CompiledModel,
        open_with: OpenGraph,
        threads: int,
        text: Decoder,
        context: int,
        path: Path,
    ) -> None:
        """`path` names the graph, which `open_with` loads into ONNX Runtime and checks."""
        self._model, self._takes, self._path = model, inputs_of(model), path
        self._computes_state = any("state" in output.names for output in model.outputs)
        super().__init__(open_with, threads, text, context)

    def extend(
        self, embeds: FloatArray, past: int, image_ids: IntArray, positions: IntArray
    ) -> Logits:
        """Runs the decoder on new embeddings; returns the last logits [vocab] (GraphDecoder).

        The next call overwrites the logits that this one returned.
        """
        new = embeds.shape[1]
        if new < PROMPT:
            return super().extend(embeds, past, image_ids, positions)
        mask = self._mask[:, : past + new]
        fed = step_inputs(self._takes, embeds, mask, image_ids, positions)
        for name, values in self._cached():
            fed[f"{CACHE}{name}"] = np.ascontiguousarray(values[:, :, :past])
        if "num_logits_to_keep" in self._takes:
            fed["num_logits_to_keep"] = np.array(1, np.int64)
        with running(self._path):
            # Not kept, because it holds its outputs: all keys and values once more.
            request = self._model.create_infer_request()
            request.infer(fed, share_inputs=True, share_outputs=True)
            for name, values in self._cached():
                added = request.get_tensor(f"present.{name}").data[:, :, past:]
                values[:, :, past : past + new] = added
            self._last[:] = request.get_tensor("logits").data[0, -1]
            if self._computes_state:
                self.state[:] = request.get_tensor("state").data[0, -1]
        del request
        give_back()
        return self._last
