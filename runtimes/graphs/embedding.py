"""Looks up a decoder's inputs in the embedding graph, and puts image features among them."""

from pathlib import Path

import numpy as np

from export.arrays import FloatArray, IntArray
from export.errors import UserError
from export.modeling.vlm import Vlm
from runtimes.graphs.graph import Graph
from runtimes.session.images import place_features


class Embedding:
    """The loaded embedding graph of an artifact, of any layout."""

    def __init__(self, graph: Graph, vlm: Vlm, path: Path) -> None:
        """`path` names the artifact. Raises UserError if the graph has rows of no fixed length."""
        if graph.width is None:
            raise UserError(
                f"{path}: its embedding graph has rows of no fixed length; export it again"
            )
        self._graph, self._image_token_id = graph, vlm.image_token_id
        self._merges = "image_features" in graph.inputs
        self._width = graph.width
        self._marks = graph.width - vlm.text.hidden
        """Columns of marks (export.onnx.layouts)."""

    def rows(self, ids: IntArray, features: FloatArray | None) -> FloatArray:
        """Returns the decoder's inputs [1, n, width]: embeddings of ids, features of image tokens.

        The next call may overwrite the rows that this one returned.
        """
        if features is not None and self._marks:
            features = np.pad(features, ((0, 0), (0, self._marks)), constant_values=1)
        if self._merges:
            rows = self._no_rows() if features is None else features
            return self._graph.run({"input_ids": ids[None], "image_features": rows})
        embeds = self._graph.run({"input_ids": ids[None]})
        place_features(embeds[0], ids, features, self._image_token_id)
        return embeds

    def _no_rows(self) -> FloatArray:
        """Returns features of no image tokens: [0, width]."""
        return np.zeros((0, self._width), np.float32)
