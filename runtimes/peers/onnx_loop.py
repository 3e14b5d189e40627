"""Baseline: a bare loop over an artifact's embedding and decoder graphs in ONNX Runtime.

For comparison with the onnxruntime runtime on the same files. Text only, with default session
settings.
"""

import numpy as np
import onnxruntime as ort

from export.arrays import FloatArray
from export.artifact import Artifact
from export.errors import UserError
from export.modeling.vlm import Vlm
from runtimes.base import Session
from runtimes.onnxruntime.graph import CPU_PROVIDER, inputs_of, opened, running
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.backend import Backend, Extend, context_length
from runtimes.session.loop import GreedySession


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> Session:
    """Loads the embedding and decoder graphs of an ONNX artifact; returns a session for text."""
    return GreedySession(open_backend(artifact, threads), preparer_of(artifact), ())


def open_backend(artifact: Artifact, threads: int) -> Backend:
    """Loads the embedding and decoder graphs; returns a backend that only runs these two."""
    return BareLoop(artifact, threads)


class BareLoop:
    """A Backend that runs the embedding and then the decoder graph on the CPU; takes no images."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors are raised, too
        self._path = artifact.path
        self._embed, self._decoder = (
            opened(artifact.file(part), options, [CPU_PROVIDER], "the CPU")
            for part in ("embedding", "decoder")
        )
        vlm = artifact.manifest.vlm
        self.context = context_length(vlm)
        self._per_position = {  # inputs with one value for each position so far
            "attention_mask": np.ones((1, self.context), np.int64),
            "image_numbers": np.zeros((1, self.context), np.int64),
        }
        self._positions = np.arange(self.context)
        self._takes = inputs_of(self._decoder)
        width = self._embed.get_outputs()[0].shape[-1]
        if "num_logits_to_keep" not in self._takes or width != vlm.text.hidden:
            raise UserError(
                f"{artifact.path}: a bare loop does not run layout {artifact.manifest.layout}; "
                f"export with --layout native"
            )
        self._logits = np.zeros((1, 1, vlm.text.vocab), np.float32)
        self._last: FloatArray = self._logits[0, 0]
        self._binding = self._decoder.io_binding()
        self._token = np.zeros((1, 1), np.int64)
        self._row = np.zeros((1, 1, vlm.text.hidden), np.float32)
        self._lookup = self._embed.io_binding()
        with running(self._path):
            self._cache = self._bind(vlm)
            self._lookup.bind_cpu_input("input_ids", self._token)
            row = ort.OrtValue.ortvalue_from_numpy(self._row)
            self._lookup.bind_ortvalue_output("inputs_embeds", row)

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Raises UserError: this baseline takes no images."""
        raise UserError("onnx_loop only runs text; ask for --prompt text")

    def extend(self, step: Extend) -> FloatArray:
        """Runs the decoder on a step's tokens; returns the last one's logits [vocab] (Backend)."""
        with running(self._path):
            return self._run(step)

    def close(self) -> None:
        """Frees the graphs and the cache."""
        del self._binding, self._lookup, self._cache, self._embed, self._decoder

    def _run(self, step: Extend) -> FloatArray:
        ids, past = step.ids, step.past
        end = past + len(ids)
        if len(ids) == 1:
            self._token[0] = ids
            self._embed.run_with_iobinding(self._lookup)
            self._binding.bind_cpu_input("inputs_embeds", self._row)
        else:
            rows = self._embed.run(None, {"input_ids": ids[None]})[0]
            self._binding.bind_cpu_input("inputs_embeds", rows)
        for name, values in self._per_position.items():
            if name in self._takes:
                self._binding.bind_cpu_input(name, values[:, :end])
        if "position_ids" in self._takes:
            axes = np.broadcast_to(self._positions[past:end], (3, 1, len(ids)))
            self._binding.bind_cpu_input("position_ids", np.ascontiguousarray(axes))
        self._decoder.run_with_iobinding(self._binding)
        return self._last

    def _bind(self, vlm: Vlm) -> list[ort.OrtValue]:
        """Binds buffers for the cache and the logits to the decoder graph, and returns them."""
        text, cache = vlm.text, []
        for i, state in enumerate(text.states):
            shape = state.shape(self.context)
            for kind in ("key", "value"):
                value = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "cpu")
                self._binding.bind_ortvalue_input(f"past_key_values.{i}.{kind}", value)
                self._binding.bind_ortvalue_output(f"present.{i}.{kind}", value)
                cache.append(value)
        self._binding.bind_cpu_input("num_logits_to_keep", np.array(1, np.int64))
        logits = ort.OrtValue.ortvalue_from_numpy(self._logits)
        self._binding.bind_ortvalue_output("logits", logits)
        cache.append(logits)
        return cache
