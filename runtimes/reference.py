"""The reference runtime: runs a checkpoint's network eagerly in torch.

Uses float32 on the CPU and bfloat16, in which checkpoints are trained, on a GPU. It is exact and
simple rather than fast, because exported models are compared with it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import assert_never

import numpy as np
import torch

from export.arrays import FloatArray, IntArray
from export.model import Model
from export.modeling.vision import ImageVision, TileVision
from export.torch.attention import GrowingState
from export.torch.run import Observer, Parameter, Run, resident, streaming
from runtimes.base import Region, Request, Session
from runtimes.devices import device_of
from runtimes.prepare.crops import stitched
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.backend import Extend
from runtimes.session.images import image_ids, place_features
from runtimes.session.loop import GreedySession
from runtimes.session.positions import answer_positions, prompt_positions
from runtimes.session.regions import RegionHead

RESIDENT_BYTES = 2**30
TILES = 32  # encoded at a time


def open_session(
    model: Model,
    *,
    threads: int,
    device: str = "cpu",
    parameter: Parameter | None = None,
    dtype: torch.dtype | None = None,
) -> Session:
    """Loads a checkpoint into torch and returns the session.

    `device`: "cpu", "cuda" or "cuda:N". `parameter`: a function that returns a weight by its name
    (default: each weight is read once and kept in memory). `dtype`: type of weights and activations
    (default: float32 on the CPU, bfloat16 on a GPU).
    """
    torch.set_num_threads(threads)
    where = device_of(device)
    name = device if where.kind == "cpu" else f"cuda:{where.index}"
    dtype = dtype or (torch.float32 if where.kind == "cpu" else torch.bfloat16)
    hold = parameter or resident(model.weights, name, dtype)
    backend = TorchBackend(model, hold, device=name, dtype=dtype)
    return GreedySession(backend, preparer_of(model), model.vlm.stop_token_ids)


class ReferenceScorer:
    """Computes the reference's logits for answers that are given, one forward pass per request.

    The weights of a model of over `RESIDENT_BYTES` are read again at each use and not kept, so that
    a proof needs no more memory than the export before it.
    """

    def __init__(self, model: Model, observe: Observer | None = None) -> None:
        """`observe` is called with the input and the names of each linear layer that runs."""
        size = 4 * sum(math.prod(shape) for shape in model.weights.shapes().values())
        hold = resident if size <= RESIDENT_BYTES else streaming
        self._backend = TorchBackend(model, hold(model.weights), observe=observe)
        self._preparer = preparer_of(model)
        self._session = GreedySession(self._backend, self._preparer, model.vlm.stop_token_ids)

    @property
    def only_first(self) -> tuple[int, ...]:
        """Token ids that the model may choose only as the first token of an answer."""
        return self._preparer.only_first

    def first_region(self, request: Request) -> Region:
        """Returns the first point or box of the answer to a request; () if it has none.

        For requests whose task asks for points or boxes.
        """
        return next((e.region for e in self._session.generate(request) if e.kind == "place"), ())

    def tokens(self, text: str) -> tuple[int, ...]:
        """Returns the token ids of an answer's text; no special tokens are added."""
        return self._preparer.tokens(text)

    def positions(self, request: Request) -> int:
        """Returns the positions that a request's prompt and given answer take in the context.

        Raises UserError for a request that does not fit the model otherwise.
        """
        return len(self._preparer(request).ids) + len(request.answer or ()) - 1

    def features(self, request: Request) -> FloatArray | None:
        """Returns the features of a request's images [image tokens, hidden]; None without any."""
        images = self._preparer(request).images
        return self._backend.encode(images) if images else None

    def score(self, request: Request, features: FloatArray | None) -> FloatArray:
        """Returns the logits that each token of `request.answer` is chosen from: [tokens, vocab].

        Row n follows the prompt and the first n tokens of the answer. `features`: the images'
        features, as returned by the method `features`.
        """
        prepared, answer = self._preparer(request), request.answer or ()
        grids = [image.token_grid for image in prepared.images if image.token_grid is not None]
        where = prompt_positions(prepared.ids, self._preparer.image_token_id, grids)
        following = answer_positions(where, len(answer) - 1)
        ids = np.concatenate([prepared.ids, np.array(answer[:-1], np.int64)])
        where = np.concatenate([where, following], axis=1)
        return self._backend.extend_all(Extend(ids, features, 0, where), keep=len(answer))


class TorchBackend:
    """Runs a checkpoint in torch for a GreedySession (a BatchBackend and a RegionBackend).

    Each forward pass is a new `export.torch.run.Run` over the same weights.
    """

    def __init__(
        self,
        model: Model,
        parameter: Parameter,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        observe: Observer | None = None,
    ) -> None:
        self._vlm = model.vlm
        self._run = partial(Run, parameter, device=device, dtype=dtype, observe=observe)
        self._ops = self._run()
        self._state = GrowingState(device=device, dtype=dtype)
        self.context = model.vlm.text.context
        self._image_ids = np.zeros(self.context, np.int64)
        self.state = np.zeros(model.vlm.text.hidden, np.float32)
        self._batch: list[int] = []  # numbers of the cached sequences, …
        self._end = 0  # … which have this many positions

    def use_threads(self, threads: int) -> None:
        """Computes with so many threads, as all of torch in this process (ThreadedBackend)."""
        torch.set_num_threads(threads)

    @torch.inference_mode()
    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Returns the features of one request's images [image tokens, hidden] (Backend)."""
        return np.concatenate([self._encoded(image) for image in images])

    def _encoded(self, image: Pixels) -> FloatArray:
        """Returns the features of one image [tokens, hidden]."""
        vision, ops = self._vlm.require_vision(), self._ops
        match vision:
            case ImageVision(tower=tower):
                assert image.token_grid is not None, "images of any size have a grid of tokens"
                ops = self._run(patch_grid=tower.patch_grid(image.token_grid))
                return self._joined(image, _host(vision.forward(ops, ops.tensor(image.values))))
            case TileVision(crops=None):
                return self._joined(image, _host(vision.forward(ops, ops.tensor(image.values))))
            case TileVision():
                crops = (ops.tensor(crop[None]) for crop in image.values)
                return self._joined(image, (_host(vision.forward(ops, crop)[0]) for crop in crops))
            case _:
                assert_never(vision)

    def _joined(self, image: Pixels, parts: Iterable[FloatArray]) -> FloatArray:
        """Returns an image's features [tokens, hidden] from the tower's outputs for its parts.

        `parts`: the outputs for each tile or overlapping crop of the image, in order.
        """
        vision = self._vlm.require_vision()
        if vision.crops is None:
            return np.concatenate([*parts])
        side, margin = vision.tower.side, vision.crops.margin
        both = stitched(parts, image.rows, image.cols, side, margin)
        return _host(vision.crops.join(self._ops, self._ops.tensor(both)[None])[0])

    @torch.inference_mode()
    def encode_each(self, images: Sequence[tuple[Pixels, ...]]) -> list[FloatArray]:
        """Returns the features of each request's images [image tokens, hidden] (BatchBackend).

        Tiles of all images are encoded together, TILES at a time; images of any size one by one.
        """
        every = [image for of_request in images for image in of_request]
        if not every or every[0].token_grid is not None:
            return [self.encode(of_request) for of_request in images]
        tiles = np.concatenate([image.values for image in every])
        batches = (tiles[n : n + TILES] for n in range(0, len(tiles), TILES))
        vision, ops = self._vlm.require_vision(), self._ops
        encoded = np.concatenate([_host(vision.forward(ops, ops.tensor(part))) for part in batches])
        ends = np.cumsum([image.tiles for image in every])
        rows = map(self._joined, every, np.split(encoded, ends[:-1]))
        return [np.concatenate([next(rows) for _ in of_request]) for of_request in images]

    @torch.inference_mode()
    def extend_each(self, steps: dict[int, Extend], common: int) -> dict[int, FloatArray]:
        """Runs the decoder on a step per sequence; returns each one's last logits (BatchBackend).

        Prompts of different lengths are padded on the left, after their first `common` positions,
        so that all end together.
        """
        parts = [*steps.values()]
        # A bidirectional prefix cannot be cached in part.
        common = common if common >= self._vlm.text.prefix else 0
        if parts[0].past == 0:
            parts = self._after_prefix(parts, common)
        text, length = self._vlm.text, max(len(step.ids) for step in parts)
        embeds = np.zeros((len(parts), length, text.hidden), np.float32)
        positions = np.zeros((len(parts), 3, length), np.int64)
        for row, axes, step in zip(embeds, positions, parts, strict=True):
            new = row[length - len(step.ids) :]
            new[:] = _host(text.embed(self._ops, self._ops.tensor(step.ids)))
            place_features(new, step.ids, step.features, self._vlm.image_token_id)
            axes[:, length - len(step.ids) :] = step.positions
        if parts[0].past == common:
            self._begin_batch(parts, positions)
        else:
            if len(steps) < len(self._batch):
                self._state = self._state.select([self._batch.index(n) for n in steps])
            self._state = self._state.next_token(self._end, self._ops.tensor(positions))
        self._batch, self._end = [*steps], self._state.past + length
        logits, _ = text.forward(self._run(state=self._state), self._ops.tensor(embeds))
        return dict(zip(steps, _host(logits[:, -1]), strict=True))

    def _after_prefix(self, steps: Sequence[Extend], common: int) -> list[Extend]:
        """Caches the first `common` positions for all sequences; returns the rest of the
        prompts."""
        if not common:
            return [*steps]
        ids, features, _, positions = steps[0]
        prefix = Extend(ids[:common], features, 0, positions[:, :common])
        self.extend_all(prefix, keep=1)
        self._state.cache.expand(len(steps))
        return [step.after_prefix(common, self._vlm.image_token_id) for step in steps]

    def _begin_batch(self, steps: Sequence[Extend], positions: IntArray) -> None:
        """Sets padding, image ids and positions [B, 3, n] for the prompts of a new batch."""
        past, length = steps[0].past, positions.shape[-1]
        token, prefix = self._vlm.image_token_id, self._vlm.text.prefix
        images = np.zeros((len(steps), past + length), np.int64)
        images[:, :past] = self._image_ids[:past]
        for row, step in zip(images, steps, strict=True):
            new = row[past + length - len(step.ids) :]
            image_ids(new, step.ids, step.features, 0, token, prefix)
            new[new > 0] += past  # distinct from the ids of images in the common prefix
        pads = np.array([length - len(step.ids) for step in steps])
        self._begin_pass(past, images, positions, 1, pads)

    def _begin_pass(
        self,
        past: int,
        image_ids: IntArray,
        positions: IntArray,
        keep: int,
        pads: IntArray | None = None,
    ) -> None:
        """Sets the inputs of the next forward pass, which follows `past` cached positions.

        `keep`: the last positions whose logits are computed. `pads`: padding positions of each
        sequence of a batch. For the shapes, see GrowingState.
        """
        self._state = replace(
            self._state,
            past=past,
            image_ids=self._ops.tensor(image_ids),
            positions=self._ops.tensor(np.ascontiguousarray(positions)),
            pads=None if pads is None else self._ops.tensor(pads),
            common=past,
            keep=keep,
        )

    @torch.inference_mode()
    def region_embeddings(self, head: RegionHead, values: FloatArray) -> FloatArray:
        """Returns embeddings [n, hidden] of coordinates or sizes (RegionBackend)."""
        assert self._vlm.region is not None
        return _host(self._vlm.region.embed(self._ops, head, self._ops.tensor(values)))

    @torch.inference_mode()
    def region_logits(self, head: RegionHead) -> FloatArray:
        """Returns logits over the coordinates or sizes that may come next (RegionBackend)."""
        assert self._vlm.region is not None
        state = self._ops.tensor(self.state)[None]
        return _host(self._vlm.region.logits(self._ops, head, state)[0])

    def extend(self, step: Extend) -> FloatArray:
        """Runs the decoder on a step's tokens; returns the last one's logits [vocab] (Backend)."""
        logits: FloatArray = self.extend_all(step, keep=1)[0]
        return logits

    @torch.inference_mode()
    def extend_all(self, step: Extend, keep: int) -> FloatArray:
        """Runs the decoder on a step's tokens, as `extend`; returns the last `keep` tokens' logits.

        The result is [keep, vocab].
        """
        ids, features, past, positions = step
        text, image_token_id = self._vlm.text, self._vlm.image_token_id
        embeds = _host(text.embed(self._ops, self._ops.tensor(ids)))
        place_features(embeds, ids, features, image_token_id)
        images = image_ids(self._image_ids, ids, features, past, image_token_id, text.prefix)
        self._begin_pass(past, images, positions, keep)
        ops = self._run(state=self._state)
        logits, state = text.forward(ops, ops.tensor(embeds)[None])
        self.state = _host(state[0, -1])
        return _host(logits[0])

    def close(self) -> None:
        """Frees the weights and the key-value cache (Backend)."""
        self._run = partial(Run, lambda name: torch.empty(0))
        self._ops = self._run()
        self._state.cache.clear()


def _host(x: torch.Tensor) -> FloatArray:
    """Returns a tensor as a float32 array on the host; on a GPU this waits for the result."""
    rows: FloatArray = x.float().cpu().numpy()
    return rows
