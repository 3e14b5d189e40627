"""A backend without a network, whose logits are a digest of everything that its cache holds.

Any position that a session wrongly keeps, drops or pairs with other features changes its answers.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from export.arrays import FloatArray, IntArray
from export.errors import UserError
from export.images.pixels import Pixels
from export.modeling.vlm import Vlm
from export.prompts import Prompt
from runtimes.base import Logits
from runtimes.session.backend import Extend
from runtimes.session.regions import RegionHead

HIDDEN, BINS = 4, 16


class HashingBackend:
    """A BatchBackend and RegionBackend. `fails_in`: calls until one raises; None: none does."""

    def __init__(self, vlm: Vlm, prompt: object, context: int = 512) -> None:
        self.context = context
        self.fails_in: int | None = None
        self._vlm = vlm
        self._tokens_per_tile = prompt.tokens_per_tile if isinstance(prompt, Prompt) else None
        self._cache: list[bytes] = []
        self._sequences: dict[int, list[bytes]] = {}

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        self._cache = [b"the tower took the memory"]
        self._count()
        return np.concatenate([self._features(image) for image in images])

    def encode_each(self, images: Sequence[tuple[Pixels, ...]]) -> Sequence[FloatArray]:
        return [self.encode(some) for some in images]

    def extend(self, step: Extend) -> Logits:
        self._extend(self._cache, step)
        return self._random(self._vlm.text.vocab)

    def extend_each(self, steps: dict[int, Extend], common: int) -> dict[int, FloatArray]:
        if common or not any(step.past for step in steps.values()):
            self._sequences = {}
            first = next(iter(steps.values()))
            for step in steps.values():
                assert np.array_equal(step.ids[:common], first.ids[:common])
        logits = {}
        for number, step in steps.items():
            self._extend(self._sequences.setdefault(number, []), step)
            self._cache = self._sequences[number]
            logits[number] = self._random(self._vlm.text.vocab)
        self._cache = [b"the batch took the cache"]
        return logits

    def region_embeddings(self, head: RegionHead, values: FloatArray) -> FloatArray:
        return np.repeat(values.sum(axis=1, keepdims=True), HIDDEN, axis=1).astype(np.float32)

    def region_logits(self, head: RegionHead) -> FloatArray:
        return self._random(BINS if head == "coord" else 2 * BINS)

    def close(self) -> None: ...

    def _features(self, image: Pixels) -> FloatArray:
        """Features that tell images apart, in the number of rows that the prompt has for them."""
        each = self._tokens_per_tile
        if each is None:
            grid = image.token_grid
            each = int(np.prod(grid)) if grid else self._vlm.vision.tokens_per_tile
        parts = image.values if self._tokens_per_tile else (image.values,)
        rows = each * image.tiles // len(parts) * HIDDEN
        starts = [int.from_bytes(hashlib.sha256(part).digest()[:4], "little") for part in parts]
        numbers = np.concatenate([start + np.arange(rows) for start in starts])
        return numbers.reshape(-1, HIDDEN).astype(np.float32)

    def _extend(self, cache: list[bytes], step: Extend) -> None:
        assert step.past <= len(cache)
        del cache[step.past :]
        rows = iter(step.features if step.features is not None else ())
        for index, id_ in enumerate(step.ids):
            if index == len(step.ids) // 2:
                self._count()  # a failure leaves half of it
            row = next(rows, None) if id_ == self._vlm.image_token_id else None
            cache.append(_position(int(id_), row, step.positions[:, index]))

    def _random(self, size: int) -> FloatArray:
        seed = hashlib.sha256(b"".join(self._cache)).digest()
        random = np.random.default_rng(int.from_bytes(seed[:8], "little"))
        return random.standard_normal(size, np.float32)

    def _count(self) -> None:
        if self.fails_in is not None:
            self.fails_in -= 1
            if self.fails_in < 0:
                self.fails_in = None
                raise UserError("the backend failed")


def _position(id_: int, row: FloatArray | None, where: IntArray) -> bytes:
    features = b"" if row is None else row.tobytes()
    return hashlib.sha256(f"{id_} {where.tolist()} ".encode() + features).digest()
