"""The reference: the network's definition run eagerly in torch on the checkpoint itself.

In float32 on the CPU, in bfloat16 (as checkpoints are trained) on a GPU. NOT aware of artifacts.
Slow on purpose: what is exact and simple is what others are held against.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from export import network
from export.model import Model
from export.run import Parameter, Run, resident, streaming
from runtimes.base import FloatArray, IntArray, Place, Request, Session
from runtimes.crops import joined
from runtimes.devices import device_of
from runtimes.places import Head
from runtimes.positions import following, of_text, positions
from runtimes.prepare import Pixels, preparer_of
from runtimes.session import GreedySession, number_images, place_features

RESIDENT_BYTES = 2**30


def open_session(
    model: Model, *, threads: int, device: str = "cpu", parameter: Parameter | None = None
) -> Session:
    """Open a checkpoint; `parameter` says how weights are held (default: read once, kept)."""
    torch.set_num_threads(threads)
    where = device_of(device)
    name = device if where.kind == "cpu" else f"cuda:{where.index}"
    dtype = torch.float32 if where.kind == "cpu" else torch.bfloat16
    hold = parameter or resident(model.weights, name, dtype)
    backend = TorchBackend(model, hold, partial(Run, device=name, dtype=dtype))
    return GreedySession(backend, preparer_of(model), model.vlm.stop_token_ids)


class Scorer:
    """The reference's answer to forced requests, each in one pass over the weights.

    A model over `RESIDENT_BYTES` is read from its source at every use instead of being kept, so a
    proof needs no more memory than the export before it.
    """

    def __init__(self, model: Model, interpreter: Callable[[Parameter], Run] = Run) -> None:
        size = 4 * sum(math.prod(shape) for shape in model.weights.shapes().values())
        hold = resident if size <= RESIDENT_BYTES else streaming
        self._backend = TorchBackend(model, hold(model.weights), interpreter)
        self._preparer = preparer_of(model)
        self._session = GreedySession(self._backend, self._preparer, model.vlm.stop_token_ids)

    @property
    def never_later(self) -> tuple[int, ...]:
        """Ids that are not chosen behind the first token of an answer."""
        return self._preparer.never_later

    def first_place(self, request: Request) -> Place:
        """The first place of an answer with places; () where there is none."""
        return next((e.place for e in self._session.generate(request) if e.kind == "place"), ())

    def tokens(self, text: str) -> tuple[int, ...]:
        """Token ids of an answer's text."""
        return self._preparer.tokens(text)

    def features(self, request: Request) -> FloatArray | None:
        """Features of the images [image tokens, hidden]; None where there are none."""
        images = self._preparer(request).images
        return self._backend.encode(images) if images else None

    def score(self, request: Request, features: FloatArray | None) -> FloatArray:
        """The logits [answer, vocab] behind each token of the request's answer."""
        prepared, answer = self._preparer(request), request.answer or ()
        cells = [image.cells for image in prepared.images if image.cells is not None]
        places = positions(prepared.ids, self._preparer.image_token_id, cells)
        behind = following(places, len(answer) - 1)
        ids = np.concatenate([prepared.ids, np.array(answer[:-1], np.int64)])
        places = np.concatenate([places, behind], axis=1)
        return self._backend.extend_all(ids, features, 0, places, keep=len(answer))


class TorchBackend:
    """runtimes.session.Backend over export.run."""

    def __init__(
        self, model: Model, parameter: Parameter, interpreter: Callable[[Parameter], Run] = Run
    ) -> None:
        self._vlm = model.vlm
        self._ops = interpreter(parameter)
        self.context = model.vlm.text.context
        self._images = np.zeros(self.context, np.int64)
        self.state = np.zeros(model.vlm.text.hidden, np.float32)

    @torch.inference_mode()
    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        return np.concatenate([self._encoded(image) for image in images])

    def _encoded(self, image: Pixels) -> FloatArray:
        """Features of one image [tokens, hidden]."""
        tower, projector = self._vlm.sight
        overlap = projector.overlap
        if image.cells is not None:
            rows, cols = (edge * tower.square for edge in image.cells)
            self._ops.patch_grid = rows, cols
        if overlap is None:
            features = network.vision(self._ops, self._vlm, self._ops.tensor(image.values))
            tiles: FloatArray = _host(features.flatten(0, 1))
            return tiles
        crops = (self._ops.tensor(crop[None]) for crop in image.values)
        patches = (_host(network.vision(self._ops, self._vlm, crop)[0]) for crop in crops)
        both = joined(patches, image.rows, image.cols, tower.side, overlap)
        found = network.joined_projection(self._ops, self._ops.tensor(both)[None])
        tokens: FloatArray = _host(found[0])
        return tokens

    @torch.inference_mode()
    def embed_places(self, head: Head, numbers: FloatArray) -> FloatArray:
        """See runtimes.places.Places."""
        return _host(network.place_embedding(self._ops, head, self._ops.tensor(numbers)))

    @torch.inference_mode()
    def place_logits(self, head: Head) -> FloatArray:
        """See runtimes.places.Places."""
        return _host(network.place_logits(self._ops, head, self._ops.tensor(self.state)[None])[0])

    def extend(
        self,
        ids: IntArray,
        features: FloatArray | None,
        past: int,
        positions: IntArray | None = None,
    ) -> FloatArray:
        logits: FloatArray = self.extend_all(ids, features, past, positions, keep=1)[0]
        return logits

    @torch.inference_mode()
    def extend_all(
        self,
        ids: IntArray,
        features: FloatArray | None,
        past: int,
        positions: IntArray | None,
        keep: int,
    ) -> FloatArray:
        """As extend, with the logits of the last `keep` positions: [keep, vocab]."""
        text, image_token_id = self._vlm.text, self._vlm.image_token_id
        embeds = _host(network.embedding(self._ops, text, self._ops.tensor(ids)))
        place_features(embeds, ids, features, image_token_id)
        images = number_images(self._images, ids, features, past, image_token_id, text.prefix)
        self._ops.past, self._ops.keep = past, keep
        self._ops.images = self._ops.tensor(images)
        positions = of_text(past, len(ids)) if positions is None else positions
        self._ops.positions = self._ops.tensor(np.ascontiguousarray(positions))
        logits, state = network.decoder_and_state(self._ops, text, self._ops.tensor(embeds)[None])
        self.state = _host(state[0, -1])
        return _host(logits[0])

    def close(self) -> None:
        self._ops = Run(lambda name: torch.empty(0))


def _host(x: torch.Tensor) -> FloatArray:
    """The result itself: on a GPU this waits for it."""
    rows: FloatArray = x.float().cpu().numpy()
    return rows
