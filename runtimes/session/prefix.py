"""Remembers the last request of a session: the prompt in its cache, and the images' features."""

from dataclasses import dataclass, field

import numpy as np

from export.arrays import FloatArray, IntArray
from runtimes.session.tiles import TileFeatures

NO_IDS: IntArray = np.zeros(0, np.int64)


@dataclass
class PrefixCache:
    """What the next request of a session can reuse from the last one.

    `prompt`: the ids whose keys and values are in the backend's cache. `features`: the image
    features [image tokens, hidden], or None. Both come with the key of their images
    (Prepared.images_key). `tiles`: features of earlier requests' tiles, too.
    """

    prompt: tuple[str, IntArray] = field(default=("", NO_IDS))
    features: tuple[str, FloatArray | None] = ("", None)
    tiles: TileFeatures = field(default_factory=TileFeatures)

    def forget_prompt(self) -> None:
        """Marks the key-value cache as not reusable until `prompt` is set again."""
        self.prompt = ("", NO_IDS)

    def shared(self, key: str, ids: IntArray, image_token_id: int | None) -> int:
        """Returns how many ids at the start of a new prompt are in the key-value cache.

        `key` identifies the new prompt's images; with other images than the last ones, the result
        is 0.
        """
        cached_key, cached = self.prompt
        return common_prefix(cached, ids, image_token_id) if cached_key == key else 0


def common_prefix(cached: IntArray, ids: IntArray, image_token_id: int | None) -> int:
    """Returns how many ids at the start of a cached and a new prompt are equal.

    At most len(ids) - 1, because the last position is always computed, for its logits. An image's
    tokens are counted all or not at all: they can share one time position, and a cache is cut off
    at a time position.
    """
    limit = min(len(cached), len(ids) - 1)
    same = cached[:limit] == ids[:limit]
    length = limit if same.all() else int(same.argmin())
    if not length or ids[length] != image_token_id or ids[length - 1] != image_token_id:
        return length
    text = np.flatnonzero(ids[:length] != image_token_id)
    return int(text[-1]) + 1 if len(text) else 0
