"""Looks up embeddings in ONNX Runtime, those of a single token into a fixed buffer."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from export.arrays import FloatArray, IntArray
from export.modeling.vlm import Vlm
from runtimes.graphs.embedding import Embedding
from runtimes.onnxruntime.graph import OnnxGraph


class OnnxEmbedding(Embedding):
    """The embedding graph of an artifact, loaded into ONNX Runtime."""

    def __init__(self, session: ort.InferenceSession, vlm: Vlm, path: Path) -> None:
        """`path` names the artifact."""
        super().__init__(OnnxGraph(session, path), vlm, path)
        self._session = session
        self._token = np.zeros((1, 1), np.int64)
        self._row = np.zeros((1, 1, self._width), np.float32)
        self._lookup = self._bind_lookup()

    def rows(self, ids: IntArray, features: FloatArray | None) -> FloatArray:
        """Returns the decoder's inputs [1, n, width] (Embedding).

        The result for a single id is valid until the next call.
        """
        if len(ids) > 1 or features is not None:
            return super().rows(ids, features)
        self._token[0] = ids
        self._session.run_with_iobinding(self._lookup)
        return self._row

    def _bind_lookup(self) -> ort.IOBinding:
        """Binds the buffers of a decode step, which looks up the embedding of one id."""
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", self._token)
        if self._merges:
            binding.bind_cpu_input("image_features", self._no_rows())
        name = self._session.get_outputs()[0].name
        binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(self._row))
        return binding
