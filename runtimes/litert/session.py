"""The litert runtime: our generation loop over the .tflite models of a bundle, on the CPU.

It computes what LiteRT-LM's runner does, but LiteRT's Python interface copies the key-value cache
in each pass, so it is slower.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from export.arrays import FloatArray, IntArray
from export.artifact import Artifact
from export.errors import UserError
from export.images import ImageRecipe
from export.library_log import kept
from runtimes.base import Session
from runtimes.litert.sections import tflite_models
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.backend import Extend
from runtimes.session.images import image_ids, place_features
from runtimes.session.loop import GreedySession

MASKED = np.float32(-0.7 * np.finfo(np.float32).max)
"""What LiteRT-LM's runner adds to scores of positions that are not attended to."""


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> Session:
    """Loads the .tflite models of a bundle into LiteRT and returns the session; CPU only."""
    backend = LitertBackend(artifact, threads)
    return GreedySession(backend, preparer_of(artifact), artifact.manifest.vlm.stop_token_ids)


class LitertBackend:
    """Runs the .tflite models of an artifact for a GreedySession (Backend)."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        self._vlm, self._image = artifact.manifest.vlm, artifact.manifest.image
        path = artifact.file("decoder")
        self._run = dict(_runners(path, threads))
        inputs = self._run["prefill"].get_input_details()
        self._prefilled, self.context = (int(n) for n in inputs["mask"]["shape"][2:])
        self._caches: dict[str, Any] = {
            name: np.zeros(details["shape"], np.float32)
            for name, details in inputs.items()
            if name.startswith("kv_cache_")
        }
        self._image_ids = np.zeros(self.context, np.int64)

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Returns the features of all images in order: [image tokens, hidden] (Backend)."""
        assert self._image is not None
        tiles = (tile for image in images for tile in image.values)
        runner = self._run["vision"]
        rows = [runner(images=levels(tile, self._image)[None])["features"][0] for tile in tiles]
        return np.concatenate(rows)

    def extend(self, step: Extend) -> FloatArray:
        """Runs the decoder on a step's tokens; returns the last one's logits [vocab] (Backend).

        Raises UserError if the cache has no room for a whole image.
        """
        ids, features, past, _ = step
        image_ids(self._image_ids, ids, features, past, self._vlm.image_token_id)
        self._image_ids[past + len(ids) :] = 0
        embeds = self._embedded(ids)
        place_features(embeds, ids, features, self._vlm.image_token_id)
        for begin, end in self._parts(past, past + len(ids) - 1):
            self._pass("prefill", embeds[begin - past : end - past], begin, self._prefilled)
        last = past + len(ids) - 1
        logits: FloatArray = self._pass("decode", embeds[-1:], last, 1)["logits"].reshape(-1)
        return logits

    def close(self) -> None:
        """Frees the model's memory (Backend)."""
        self._run.clear()
        self._caches.clear()

    def _embedded(self, ids: IntArray) -> FloatArray:
        """Returns the embeddings of tokens, [n, hidden]."""
        embed = self._run["embedder"]
        rows = [embed(token_ids=np.array([[i]], np.int32))["embeddings"][0] for i in ids]
        return np.concatenate(rows)

    def _parts(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields first and last position (exclusive) of each prefill; none cuts an image.

        A prefill writes as many positions as it can take, so the last ones of the cache are left to
        passes of one position.
        """
        while begin < end:
            room = self._prefilled if begin + self._prefilled <= self.context else 1
            stop = min(begin + room, end)
            while begin < stop < end and self._in_image(stop):
                stop -= 1
            if stop == begin:
                raise UserError(
                    f"an image does not fit into a prefill of {room} positions at position {begin} "
                    f"of {self.context}; ask with fewer images or a shorter question"
                )
            yield begin, stop
            begin = stop

    def _in_image(self, position: int) -> bool:
        """Returns whether a position and the one before it attend to each other."""
        both = self._image_ids[position - 1 : position + 1]
        return self._vlm.text.sees_later_positions and bool(both[0] == both[1] > 0)

    def _pass(self, name: str, embeds: FloatArray, begin: int, length: int) -> dict[str, Any]:
        """Runs a network on embeddings [n, hidden] of the positions from `begin` on.

        They are padded to `length`. Returns its outputs, without the cache, which is kept.
        """
        if name == "prefill" and begin + length > self.context:
            name, length = "decode", 1
        count = len(embeds)
        padded = np.zeros((1, length, embeds.shape[1]), np.float32)
        padded[0, :count] = embeds
        positions = np.zeros(length, np.int32)
        positions[:count] = np.arange(begin, begin + count)
        mask = np.full((1, 1, length, self.context), MASKED)
        mask[0, 0, :count][self._seen(begin, count)] = 0
        outputs: dict[str, Any] = self._run[name](
            embeddings=padded, input_pos=positions, mask=mask, **self._caches
        )
        self._caches = {key: outputs.pop(key) for key in self._caches}
        return outputs

    def _seen(self, begin: int, count: int) -> Any:
        """Returns which positions of the cache each new one attends to: bool [count, context]."""
        keys, queries = np.arange(self.context), np.arange(begin, begin + count)[:, None]
        seen = keys <= queries
        if self._vlm.text.sees_later_positions:
            image = self._image_ids[begin : begin + count, None]
            seen |= (image == self._image_ids) & (image > 0)
        return seen


def _runners(path: Path, threads: int) -> Iterator[tuple[str, Any]]:
    """Yields the signatures of a bundle's .tflite models, by the first word of their names."""
    for data in tflite_models(path).values():
        try:
            with kept():  # LiteRT says when it has made a delegate
                model = Interpreter(model_content=data, num_threads=threads)
                model.allocate_tensors()
                runners = {
                    name: model.get_signature_runner(name) for name in model.get_signature_list()
                }
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{path}: LiteRT cannot load it; export it again") from error
        yield from ((name.partition("_")[0], runner) for name, runner in runners.items())


def levels(tile: FloatArray, image: ImageRecipe) -> FloatArray:
    """Returns a prepared tile [3, height, width] as [height, width, 3] of values from 0 to 1.

    The network normalizes them again.
    """
    mean, std = (np.array(values, np.float32) for values in (image.mean, image.std))
    found: FloatArray = (tile.transpose(1, 2, 0) * std + mean) / np.float32(255 * image.rescale)
    return found
