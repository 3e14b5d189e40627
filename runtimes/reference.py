"""The reference: the network's definition run eagerly in torch on the checkpoint itself.

In float32 on the CPU, in bfloat16 (as checkpoints are trained) on a GPU. NOT aware of artifacts.
Slow on purpose: what is exact and simple is what others are held against.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torch

from export import network
from export.model import Model
from export.torch.run import Parameter, Run, resident, streaming
from runtimes.base import FloatArray, IntArray, Place, Request, Session
from runtimes.devices import device_of
from runtimes.prepare.crops import joined
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.loop import Extend, GreedySession, number_images, place_features
from runtimes.session.positions import following, of_text, positions
from runtimes.session.regions import Head

RESIDENT_BYTES = 2**30
TILES = 32  # that go through the tower at once


def open_session(
    model: Model,
    *,
    threads: int,
    device: str = "cpu",
    parameter: Parameter | None = None,
    dtype: torch.dtype | None = None,
) -> Session:
    """Open a checkpoint; `parameter` says how weights are held (default: read once, kept).

    `dtype`: of weights and activations; default float32 on the CPU, bfloat16 on a GPU.
    """
    torch.set_num_threads(threads)
    where = device_of(device)
    name = device if where.kind == "cpu" else f"cuda:{where.index}"
    dtype = dtype or (torch.float32 if where.kind == "cpu" else torch.bfloat16)
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
    """runtimes.session.loop.BatchBackend over export.torch.run."""

    def __init__(
        self, model: Model, parameter: Parameter, interpreter: Callable[[Parameter], Run] = Run
    ) -> None:
        self._vlm = model.vlm
        self._ops = interpreter(parameter)
        self.context = model.vlm.text.context
        self._images = np.zeros(self.context, np.int64)
        self.state = np.zeros(model.vlm.text.hidden, np.float32)
        self._batch: list[int] = []  # numbers of the sequences that are cached, …
        self._end = 0  # … up to here

    @torch.inference_mode()
    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        return np.concatenate([self._encoded(image) for image in images])

    def _encoded(self, image: Pixels) -> FloatArray:
        """Features of one image [tokens, hidden]."""
        tower, projector = self._vlm.sight
        if image.cells is not None:
            rows, cols = (edge * tower.square for edge in image.cells)
            self._ops.patch_grid = rows, cols
        if projector.overlap is None:
            features = network.vision(self._ops, self._vlm, self._ops.tensor(image.values))
            return self._joined(image, _host(features))
        crops = (self._ops.tensor(crop[None]) for crop in image.values)
        patches = (_host(network.vision(self._ops, self._vlm, crop)[0]) for crop in crops)
        return self._joined(image, patches)

    def _joined(self, image: Pixels, seen: Iterable[FloatArray]) -> FloatArray:
        """Features of one image [tokens, hidden] from what the tower made of each tile or crop."""
        tower, projector = self._vlm.sight
        if projector.overlap is None:
            return np.concatenate([*seen])
        both = joined(seen, image.rows, image.cols, tower.side, projector.overlap)
        found = network.joined_projection(self._ops, self._ops.tensor(both)[None])
        tokens: FloatArray = _host(found[0])
        return tokens

    @torch.inference_mode()
    def encode_each(self, images: Sequence[tuple[Pixels, ...]]) -> list[FloatArray]:
        """See BatchBackend: tiles of all images go through the tower together."""
        whole = [image for own in images for image in own]
        if not whole or whole[0].cells is not None:
            return [self.encode(own) for own in images]
        tiles = np.concatenate([image.values for image in whole])
        parts = (tiles[n : n + TILES] for n in range(0, len(tiles), TILES))
        seen = np.concatenate(
            [_host(network.vision(self._ops, self._vlm, self._ops.tensor(part))) for part in parts]
        )
        ends = np.cumsum([image.tiles for image in whole])
        rows = map(self._joined, whole, np.split(seen, ends[:-1]))
        return [np.concatenate([next(rows) for _ in own]) for own in images]

    @torch.inference_mode()
    def extend_each(self, steps: dict[int, Extend], common: int) -> dict[int, FloatArray]:
        """See runtimes.session.loop.BatchBackend.

        Prompts end together: of what they have not in common, the shorter begins later.
        """
        own = [*steps.values()]
        common = common if common >= self._vlm.text.prefix else 0  # those see each other
        if own[0].past == 0:
            own = self._begun(own, common)
        text, length = self._vlm.text, max(len(step.ids) for step in own)
        embeds = np.zeros((len(own), length, text.hidden), np.float32)
        where = np.zeros((len(own), 3, length), np.int64)
        for row, place, step in zip(embeds, where, own, strict=True):
            new = row[length - len(step.ids) :]
            new[:] = _host(network.embedding(self._ops, text, self._ops.tensor(step.ids)))
            place_features(new, step.ids, step.features, self._vlm.image_token_id)
            place[:, length - len(step.ids) :] = step.positions
        if own[0].past == common:
            self._begin(own, where)
        else:
            if len(steps) < len(self._batch):
                self._ops.keep_sequences([self._batch.index(number) for number in steps])
            self._ops.step = self._ops.step.after(self._end, self._ops.tensor(where))
        self._batch, self._end, self._ops.keep = [*steps], self._ops.step.past + length, 1
        logits = network.decoder(self._ops, text, self._ops.tensor(embeds))
        return dict(zip(steps, _host(logits[:, -1]), strict=True))

    def _begun(self, steps: Sequence[Extend], common: int) -> list[Extend]:
        """What is left of the prompts when their `common` beginning is cached for all of them."""
        if not common:
            return [*steps]
        ids, features, _, positions = steps[0]
        self.extend_all(ids[:common], features, 0, positions[:, :common], keep=1)
        self._ops.spread(len(steps))
        return [step.behind(common, self._vlm.image_token_id) for step in steps]

    def _begin(self, steps: Sequence[Extend], where: IntArray) -> None:
        """A new batch of prompts: how far each begins after the longest, where its images are."""
        past, length = steps[0].past, where.shape[-1]
        token, prefix = self._vlm.image_token_id, self._vlm.text.prefix
        images = np.zeros((len(steps), past + length), np.int64)
        images[:, :past] = self._images[:past]
        for row, step in zip(images, steps, strict=True):
            own = row[past + length - len(step.ids) :]
            number_images(own, step.ids, step.features, 0, token, prefix)
            own[own > 0] += past  # not the numbers of images before
        pads = np.array([length - len(step.ids) for step in steps])
        self._ops.begin(past, images, where, pads)

    @torch.inference_mode()
    def embed_places(self, head: Head, numbers: FloatArray) -> FloatArray:
        """See runtimes.session.regions.Places."""
        return _host(network.place_embedding(self._ops, head, self._ops.tensor(numbers)))

    @torch.inference_mode()
    def place_logits(self, head: Head) -> FloatArray:
        """See runtimes.session.regions.Places."""
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
        positions = of_text(past, len(ids)) if positions is None else positions
        self._ops.begin(past, images, np.ascontiguousarray(positions))
        self._ops.keep = keep
        logits, state = network.decoder_and_state(self._ops, text, self._ops.tensor(embeds)[None])
        self.state = _host(state[0, -1])
        return _host(logits[0])

    def close(self) -> None:
        self._ops = Run(lambda name: torch.empty(0))


def _host(x: torch.Tensor) -> FloatArray:
    """The result itself: on a GPU this waits for it."""
    rows: FloatArray = x.float().cpu().numpy()
    return rows
