"""The vision tower of a GGUF artifact through llama.cpp's multimodal library (mtmd).

NOT aware of prompts or of the text model's arithmetic.
"""

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp import mtmd_cpp as mtmd
from numpy.typing import NDArray

from export.errors import UserError
from export.families.spec import Tiles, Vlm
from runtimes.base import FloatArray
from runtimes.image import Pixels

Bytes = NDArray[np.uint8]


class MtmdTower:
    """runtimes.vision.Tower through mtmd, given strips of ready tiles that it only cuts apart.

    mtmd prepares images itself: for idefics3 it scales the longest edge to the file's
    preproc_image_size, cuts tiles row by row and adds a scaled overview (mtmd-image.cpp).
    An image of exactly that width and one tile's height stays as it is, so the tower sees the very
    pixels that the artifact's recipe made, the overview included.
    """

    def __init__(
        self, path: Path, text_model: Any, vlm: Vlm, image: Tiles, longest_edge: int, threads: int
    ) -> None:
        """`longest_edge` is the file's, in whole tiles. Raises UserError for an unfit file."""
        self._tokens, self._hidden = vlm.tokens_per_tile, vlm.text.hidden
        self._image = image
        self._columns = longest_edge // image.tile
        settings = mtmd.mtmd_context_params_default()
        settings.use_gpu = False
        settings.print_timings = False
        settings.n_threads = threads
        self._context = mtmd.mtmd_init_from_file(os.fsencode(path), text_model, settings)
        if not self._context:
            raise UserError(f"{path}: llama.cpp cannot load it; export the model again")

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        return np.concatenate([self._encoded(image.values) for image in images])

    def close(self) -> None:
        if self._context:
            mtmd.mtmd_free(self._context)
        self._context = None

    def _encoded(self, values: FloatArray) -> FloatArray:
        """Normalised tiles [n, 3, tile, tile] -> features [n * tokens, hidden]."""
        features = np.empty((len(values), self._tokens, self._hidden), np.float32)
        for start in range(0, len(values), self._columns):
            strip = slice(start, start + self._columns)
            self._encode_strip(values[strip], features[strip])
        return features.reshape(-1, self._hidden)

    def _encode_strip(self, tiles: FloatArray, features: FloatArray) -> None:
        """At most a strip of tiles [n, 3, tile, tile] into `features` [n, tokens, hidden]."""
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            self._cut(tiles, chunks)
            images = self._image_chunks(chunks, features.shape[1])
            for chunk, rows in zip(images, features, strict=False):  # further ones are empty
                if mtmd.mtmd_encode_chunk(self._context, chunk):
                    raise RuntimeError("mtmd_encode_chunk failed")
                found = mtmd.mtmd_get_output_embd(self._context)
                rows[:] = np.ctypeslib.as_array(found, rows.shape)
        finally:
            mtmd.mtmd_input_chunks_free(chunks)

    def _cut(self, tiles: FloatArray, chunks: Any) -> None:
        size = self._image.tile
        strip = np.zeros((size, self._columns, size, 3), np.uint8)  # a row of tiles
        for n, tile in enumerate(tiles):  # one at a time: what it takes on the way stays small
            strip[:, n] = _rgb(tile, self._image)
        pixels = strip.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = mtmd.mtmd_bitmap_init(self._columns * size, size, pixels)
        try:
            marker = mtmd.mtmd_default_marker()
            text = mtmd.mtmd_input_text(marker, len(marker), False, False)
            bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
            if mtmd.mtmd_tokenize(self._context, chunks, ctypes.byref(text), bitmaps, 1):
                raise RuntimeError("mtmd_tokenize failed")
        finally:
            mtmd.mtmd_bitmap_free(bitmap)

    def _image_chunks(self, chunks: Any, tokens: int) -> list[Any]:
        """One chunk a tile of the strip, row by row; the overview that mtmd adds comes last."""
        found = [
            mtmd.mtmd_input_chunks_get(chunks, n)
            for n in range(mtmd.mtmd_input_chunks_size(chunks))
        ]
        images = [
            chunk
            for chunk in found
            if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE
        ]
        sizes = {mtmd.mtmd_input_chunk_get_n_tokens(chunk) for chunk in images}
        if len(images) != self._columns + 1 or sizes != {tokens}:
            raise UserError(
                f"mtmd made {len(images)} tiles of {sorted(sizes)} tokens from a strip, expected "
                f"{self._columns + 1} of {tokens}; this llama-cpp-python cuts images differently, "
                f"install the version of constraints.txt"
            )
        return images[:-1]


def _rgb(values: FloatArray, image: Tiles) -> Bytes:
    """A normalised tile [3, h, w] back to the pixels [h, w, 3] that it came from, exactly."""
    mean, std = (np.array(part, np.float32)[:, None, None] for part in (image.mean, image.std))
    levels: FloatArray = np.rint((values * std + mean) / np.float32(image.rescale))
    return levels.astype(np.uint8).transpose(1, 2, 0)
