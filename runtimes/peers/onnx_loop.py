"""ONNX Runtime with nothing around it: the decoder's graph run in a loop, every input bound once.

The yardstick of the onnxruntime runtime on the same file. NOT aware of images; logits are left
where ONNX Runtime puts them, so answers must be forced.
"""

import numpy as np
import onnxruntime as ort

from export.artifact import Artifact
from export.errors import UserError
from export.families.geometry import Vlm
from runtimes.base import FloatArray, IntArray, Session
from runtimes.prepare import Pixels, preparer_of
from runtimes.session import Backend, GreedySession, room


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> Session:
    """Open the embedding and the decoder of an ONNX artifact."""
    return GreedySession(open_backend(artifact, threads), preparer_of(artifact), ())


def open_backend(artifact: Artifact, threads: int) -> Backend:
    """The bare loop's step."""
    return BareLoop(artifact, threads)


class BareLoop:
    """runtimes.session.Backend that only decodes."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._embed, self._decoder = (
            ort.InferenceSession(
                artifact.path / artifact.manifest.components[part][0],
                options,
                providers=["CPUExecutionProvider"],
            )
            for part in ("embedding", "decoder")
        )
        vlm = artifact.manifest.vlm
        self.context = room(vlm)
        self._nothing = np.zeros(vlm.text.vocab, np.float32)
        self._mask = np.ones((1, self.context), np.int64)
        self._binding = self._decoder.io_binding()
        self._cache = self._bind(vlm)

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        raise UserError("onnx_loop runs text alone; ask for --prompt text")

    def extend(
        self,
        ids: IntArray,
        features: FloatArray | None,
        past: int,
        positions: IntArray | None = None,
    ) -> FloatArray:
        embeds = self._embed.run(None, {"input_ids": ids[None]})[0]
        self._binding.bind_cpu_input("inputs_embeds", embeds)
        self._binding.bind_cpu_input("attention_mask", self._mask[:, : past + len(ids)])
        self._decoder.run_with_iobinding(self._binding)
        return self._nothing

    def close(self) -> None:
        del self._binding, self._cache, self._embed, self._decoder

    def _bind(self, vlm: Vlm) -> list[ort.OrtValue]:
        text, cache = vlm.text, []
        shape = (1, text.kv_heads, self.context, text.head_dim)
        for i in range(text.layers):
            for kind in ("key", "value"):
                value = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "cpu")
                self._binding.bind_ortvalue_input(f"past_key_values.{i}.{kind}", value)
                self._binding.bind_ortvalue_output(f"present.{i}.{kind}", value)
                cache.append(value)
        self._binding.bind_cpu_input("num_logits_to_keep", np.array(1, np.int64))
        logits = ort.OrtValue.ortvalue_from_numpy(np.zeros((1, 1, text.vocab), np.float32))
        self._binding.bind_ortvalue_output("logits", logits)
        cache.append(logits)
        return cache
