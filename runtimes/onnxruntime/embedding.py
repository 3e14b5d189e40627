"""Looks up a decoder's inputs in the embedding graph, and puts image features among them."""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from export.arrays import FloatArray, IntArray
from export.errors import UserError
from export.modeling.vlm import Vlm
from runtimes.onnxruntime.graph import OnnxGraph
from runtimes.session.images import place_features


class OnnxEmbedding:
    """The embedding graph of an artifact, of any layout, loaded into ONNX Runtime."""

    def __init__(self, session: ort.InferenceSession, vlm: Vlm, path: Path) -> None:
        """`path` names the artifact. Raises UserError if the graph has rows of no fixed length."""
        output = session.get_outputs()[0]
        width = output.shape[-1]
        if not isinstance(width, int):
            raise UserError(
                f"{path}: its embedding graph has rows of no fixed length; export it again"
            )
        self._session, self._graph = session, OnnxGraph(session, path)
        self._image_token_id = vlm.image_token_id
        self._merges = "image_features" in self._graph.inputs
        self._width = width
        self._marks = width - vlm.text.hidden
        """Columns of marks (export.onnx.layouts)."""
        self._token = np.zeros((1, 1), np.int64)
        self._row = np.zeros((1, 1, width), np.float32)
        self._lookup = self._bind_lookup(output.name)

    def rows(self, ids: IntArray, features: FloatArray | None) -> FloatArray:
        """Returns the decoder's inputs [1, n, width]: embeddings of ids, features of image tokens.

        The next call may overwrite the rows that this one returned.
        """
        if len(ids) == 1 and features is None:
            self._token[0] = ids
            self._session.run_with_iobinding(self._lookup)
            return self._row
        if features is not None and self._marks:
            features = np.pad(features, ((0, 0), (0, self._marks)), constant_values=1)
        if self._merges:
            rows = self._no_rows() if features is None else features
            return self._graph.run({"input_ids": ids[None], "image_features": rows})
        embeds = self._graph.run({"input_ids": ids[None]})
        place_features(embeds[0], ids, features, self._image_token_id)
        return embeds

    def _bind_lookup(self, output: str) -> ort.IOBinding:
        """Binds the buffers of a decode step, which looks up the embedding of one id."""
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", self._token)
        if self._merges:
            binding.bind_cpu_input("image_features", self._no_rows())
        binding.bind_ortvalue_output(output, ort.OrtValue.ortvalue_from_numpy(self._row))
        return binding

    def _no_rows(self) -> FloatArray:
        """Returns features of no image tokens: [0, width]."""
        return np.zeros((0, self._width), np.float32)
