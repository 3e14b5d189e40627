"""Runs the vision tower of a GGUF artifact in llama.cpp's multimodal library (mtmd).

mtmd preprocesses images itself, each family in its own way. It does not resize an image that has
the target size already, so the tower gets exactly the pixels that the artifact's recipe made.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from llama_cpp import mtmd_cpp as mtmd
from numpy.typing import NDArray

from export.arrays import FloatArray
from export.errors import UserError
from export.images import ImageRecipe, Patches
from export.images.pixels import Pixels
from export.modeling.vlm import Vlm
from runtimes.devices import CPU, Device
from runtimes.llama_cpp.devices import gpu
from runtimes.llama_cpp.files import MmprojFile
from runtimes.llama_cpp.log import complaints
from runtimes.nvidia import raise_if_out_of_memory

Bytes = NDArray[np.uint8]


class MtmdTower:
    """Runs a vision tower in mtmd, llama.cpp's multimodal library (VisionTower).

    Images that mtmd does not cut are passed one by one, tiles of other images side by side in
    strips. For idefics3, mtmd scales the longest edge to the file's preproc_image_size, cuts tiles
    row by row and appends a scaled overview (mtmd-image.cpp). So a strip of exactly that width and
    one tile's height is cut but not scaled.
    """

    def __init__(
        self,
        file: MmprojFile,
        text_model: Any,
        vlm: Vlm,
        image: ImageRecipe,
        threads: int,
        *,
        device: Device = CPU,
    ) -> None:
        """Raises UserError for a file that mtmd cannot load and a GPU that it does not find."""
        self._tokens, self._hidden = vlm.require_vision().tokens_per_tile, vlm.text.hidden
        self._image, self._columns = image, file.columns
        settings = _settings(image, threads, gpu(device))
        self._context = mtmd.mtmd_init_from_file(os.fsencode(file.path), text_model, settings)
        if not self._context:
            raise_if_out_of_memory(complaints(), "while the vision tower was loaded")
            raise UserError(f"{file.path}: llama.cpp cannot load it; export the model again")

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Returns the features of all images in order: [image tokens, hidden] (VisionTower)."""
        encoded = self._whole if self._columns is None else self._in_strips
        return np.concatenate([encoded(image) for image in images])

    def close(self) -> None:
        """Frees the tower's memory; a second call does nothing (VisionTower)."""
        if self._context:
            mtmd.mtmd_free(self._context)
        self._context = None

    def _whole(self, image: Pixels) -> FloatArray:
        """Returns the features [tokens, hidden] of an image that mtmd does not cut."""
        if image.token_grid is None:
            pixels, tokens = _rgb(image.values[0], self._image), self._tokens
        else:
            pixels, tokens = np.asarray(image.rgb), image.token_grid[0] * image.token_grid[1]
        features = np.empty((1, tokens, self._hidden), np.float32)
        with self._chunks(pixels) as chunks:
            self._expect(chunks, 1, tokens)
            self._encode(chunks, features)
        rows: FloatArray = features[0]
        return rows

    def _in_strips(self, image: Pixels) -> FloatArray:
        """Returns the features [n * tokens, hidden] of an image's n tiles [n, 3, tile, tile]."""
        assert self._columns is not None
        values, size = image.values, image.values.shape[-1]
        features = np.empty((len(values), self._tokens, self._hidden), np.float32)
        for start in range(0, len(values), self._columns):
            tiles = values[start : start + self._columns]
            strip = np.zeros((size, self._columns, size, 3), np.uint8)
            for n, tile in enumerate(tiles):  # one at a time, for small temporaries
                strip[:, n] = _rgb(tile, self._image)
            with self._chunks(strip.reshape(size, -1, 3)) as chunks:
                self._expect(chunks, self._columns + 1, self._tokens)
                # After the tiles come empty ones, and the overview that mtmd appends: ignored.
                self._encode(chunks, features[start : start + self._columns])
        return features.reshape(-1, self._hidden)

    def _encode(self, chunks: list[Any], features: FloatArray) -> None:
        """Encodes the first n chunks into `features` [n, tokens, hidden]; ignores further ones."""
        for chunk, rows in zip(chunks, features, strict=False):
            if mtmd.mtmd_encode_chunk(self._context, chunk):
                raise RuntimeError(f"mtmd_encode_chunk failed: {complaints()}")
            pointer = mtmd.mtmd_get_output_embd(self._context)
            rows[:] = np.ctypeslib.as_array(pointer, rows.shape)

    @contextmanager
    def _chunks(self, pixels: Bytes) -> Iterator[list[Any]]:
        """Context manager: yields the chunks that mtmd cuts an image [height, width, 3] into.

        They are freed at the end.
        """
        pixels = np.ascontiguousarray(pixels)
        chunks = mtmd.mtmd_input_chunks_init()
        data = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = mtmd.mtmd_bitmap_init(pixels.shape[1], pixels.shape[0], data)
        try:
            marker = mtmd.mtmd_default_marker()
            text = mtmd.mtmd_input_text(marker, len(marker), False, False)
            bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
            if mtmd.mtmd_tokenize(self._context, chunks, ctypes.byref(text), bitmaps, 1):
                raise RuntimeError("mtmd_tokenize failed")
            yield _image_chunks(chunks)
        finally:
            mtmd.mtmd_bitmap_free(bitmap)
            mtmd.mtmd_input_chunks_free(chunks)

    def _expect(self, chunks: list[Any], count: int, tokens: int) -> None:
        """Raises UserError unless mtmd cut an image into `count` chunks of `tokens` tokens each."""
        sizes = {mtmd.mtmd_input_chunk_get_n_tokens(chunk) for chunk in chunks}
        if len(chunks) != count or sizes != {tokens}:
            raise UserError(
                f"mtmd made {len(chunks)} tiles of {sorted(sizes)} tokens from an image, expected "
                f"{count} of {tokens}; this version of llama-cpp-python cuts images differently, "
                f"install the one of constraints.txt"
            )


def _settings(image: ImageRecipe, threads: int, handle: int | None) -> Any:
    """Returns mtmd's settings (mtmd_context_params); `handle` is the GPU's, None for the CPU."""
    settings = mtmd.mtmd_context_params_default()
    settings.use_gpu, settings.device = handle is not None, handle
    settings.print_timings = False
    settings.n_threads = threads
    if isinstance(image, Patches):  # mtmd's default limits are narrower than the checkpoint's
        token = (image.patch_size * image.merge_size) ** 2
        settings.image_min_tokens = max(1, image.min_pixels // token)
        settings.image_max_tokens = image.most_pixels // token
    return settings


def _image_chunks(chunks: Any) -> list[Any]:
    """Returns the chunks that are images, leaving out text."""
    count = mtmd.mtmd_input_chunks_size(chunks)
    return [
        chunk
        for chunk in (mtmd.mtmd_input_chunks_get(chunks, n) for n in range(count))
        if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE
    ]


def _rgb(values: FloatArray, image: ImageRecipe) -> Bytes:
    """Undoes the normalisation of a tile [3, h, w]: returns exactly its uint8 pixels [h, w, 3]."""
    mean, std = (np.array(part, np.float32)[:, None, None] for part in (image.mean, image.std))
    levels: FloatArray = np.rint((values * std + mean) / np.float32(image.rescale))
    return levels.astype(np.uint8).transpose(1, 2, 0)
