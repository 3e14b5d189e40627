"""Encodes equal tiles once, and keeps the features of a session's last ones.

Margins of pages, frames of a video and pictures that are asked about again have tiles with equal
pixels. NOT aware of what a tower does: it gets the tiles that are left.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from export.arrays import FloatArray
from export.images.pixels import Pixels
from runtimes.session.backend import Encode

MOST_BYTES = 16 << 20
"""How many bytes of features a session keeps: more than those of a hundred tiles of SmolVLM."""


class Encoded(NamedTuple):
    """The features [image tokens, hidden] of a request's images, and how many tiles were encoded
    for them."""

    features: FloatArray
    tiles: int


@dataclass
class TileFeatures:
    """Features [tokens, hidden] by their pixels' digest; those used last, up to MOST_BYTES."""

    _kept: OrderedDict[bytes, FloatArray] = field(default_factory=OrderedDict)

    def encode(
        self, images: tuple[Pixels, ...], key: str, *, apart: bool
    ) -> Generator[Encode, FloatArray, Encoded]:
        """Returns the features of images that `key` identifies; yields an Encode step for what is
        new, if anything is.

        `apart`: a tile's features depend on no other tile; otherwise images are compared as wholes.
        """
        parts = [part for image in images for part in (_tiles(image) if apart else (image,))]
        digests = [_digest(part) for part in parts]
        new = {d: p for d, p in zip(digests, parts, strict=True) if d not in self._kept}
        if len(new) == len(parts):
            features = yield Encode(key, images)
        elif new:
            features = yield Encode(key, tuple(new.values()))
        found = {d: self._kept[d] for d in digests if d in self._kept}
        if new:
            ends = np.cumsum([_tokens(part, features, [*new.values()]) for part in new.values()])
            rows = (row.copy() for row in np.split(features, ends[:-1]))
            found |= zip(new, rows, strict=True)
        self._keep(found)
        if len(new) < len(parts):
            features = np.concatenate([found[digest] for digest in digests])
        return Encoded(features, sum(part.tiles for part in new.values()))

    def _keep(self, used: dict[bytes, FloatArray]) -> None:
        """Adds features that were used, and drops the ones that were used longest ago."""
        for digest, rows in used.items():
            self._kept[digest] = rows
            self._kept.move_to_end(digest)
        size = sum(rows.nbytes for rows in self._kept.values())
        while size > MOST_BYTES:
            size -= self._kept.popitem(last=False)[1].nbytes


def _tiles(image: Pixels) -> list[Pixels]:
    return [Pixels(tile[None], 1, 1, image.rgb) for tile in image.values]


def _tokens(part: Pixels, features: FloatArray, parts: Sequence[Pixels]) -> int:
    """Returns how many rows of `features` [tokens, hidden] of all `parts` are those of one."""
    if part.token_grid is not None:
        return part.token_grid[0] * part.token_grid[1]
    return len(features) // len(parts)


def _digest(part: Pixels) -> bytes:
    digest = hashlib.blake2b(repr((part.values.shape, part.rows, part.token_grid)).encode())
    digest.update(np.ascontiguousarray(part.values).data)
    return digest.digest()
