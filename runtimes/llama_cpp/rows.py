"""Rows of a GGUF file's token embedding, read where they are: llama.cpp gives none of them out.

A span that enters as embeddings may have text in it (the begin of a text before Moondream's image).
NOT aware of llama.cpp's library.
"""

import numpy as np

from runtimes.base import FloatArray, IntArray
from runtimes.llama_cpp.files import DecoderFile


class TokenRows:
    """The table of one file, mapped, not read."""

    def __init__(self, file: DecoderFile, scale: float) -> None:
        """`scale`: what embeddings of tokens are multiplied by (Decoder.embedding_scale)."""
        self._file, self._scale = file, np.float32(scale)

    def rows(self, ids: IntArray) -> FloatArray:
        """Embeddings [n, hidden] of tokens, as llama.cpp would look them up."""
        from gguf import GGMLQuantizationType, quants

        table = self._file.table
        count = table.shape[0]
        stored = np.memmap(
            self._file.path, np.uint8, "r", table.start, (count, table.nbytes // count)
        )[ids]
        kind = GGMLQuantizationType(table.kind)
        found: FloatArray = quants.dequantize(stored, kind).astype(np.float32) * self._scale
        return found
