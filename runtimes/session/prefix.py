"""What a session keeps of its last request: the cached prompt and the images' features."""

from dataclasses import dataclass, field

import numpy as np

from export.arrays import FloatArray, IntArray

NO_IDS: IntArray = np.zeros(0, np.int64)


@dataclass
class PrefixCache:
    """The last request's prompt in the key-value cache, and its images' features.

    Both are stored with the key of the images that they were computed for.
    """

    prompt: tuple[str, IntArray] = field(default=("", NO_IDS))
    features: tuple[str, FloatArray | None] = ("", None)

    def forget_prompt(self) -> None:
        """Reuse nothing of the key-value cache until the next prompt is complete."""
        self.prompt = ("", NO_IDS)

    def shared(self, key: str, ids: IntArray, image_token_id: int | None) -> int:
        """Length of the prefix of `ids` that the cache holds, for a prompt with these images."""
        cached_key, cached = self.prompt
        return common_prefix(cached, ids, image_token_id) if cached_key == key else 0


def common_prefix(cached: IntArray, ids: IntArray, image_token_id: int | None) -> int:
    """Length of the prefix that both have in common, at most len(ids) - 1.

    The last position is always computed, for its logits. An image's tokens are reused all or not at
    all: they can share one time position, and a cache is cut off at a time position.
    """
    limit = min(len(cached), len(ids) - 1)
    same = cached[:limit] == ids[:limit]
    length = limit if same.all() else int(same.argmin())
    if not length or ids[length] != image_token_id or ids[length - 1] != image_token_id:
        return length
    text = np.flatnonzero(ids[:length] != image_token_id)
    return int(text[-1]) + 1 if len(text) else 0
