"""Puts image features into a decoder's input, and numbers the image of each position."""

import numpy as np

from export.arrays import FloatArray, IntArray


def place_features(
    embeddings: FloatArray, ids: IntArray, features: FloatArray | None, image_token_id: int | None
) -> None:
    """Replaces the embeddings of image tokens by the rows of `features`, in order and in place.

    `embeddings` [n, hidden] are those of `ids` [n]. Image tokens beyond the last row of `features`
    belong to an answer and keep their embedding. None: nothing is replaced.
    """
    if features is not None:
        rows = np.flatnonzero(ids == image_token_id)[: len(features)]
        embeddings[rows] = features[: len(rows)]


def image_ids(
    buffer: IntArray,
    ids: IntArray,
    features: FloatArray | None,
    past: int,
    image_token_id: int | None,
    prefix: int = 0,
) -> IntArray:
    """Returns for each position so far, [past + n], the number of its image; text is 0.

    Decoders whose image tokens attend to each other in both directions need it. The tokens of one
    image share a number above 0; neighbouring image tokens count as one image, and image tokens
    beyond the rows of `features` as text. With a `prefix` (Decoder.prefix), the first `prefix`
    positions are 1 if an image token is among them, and all others are 0.

    `buffer` [context] holds the numbers from earlier calls; this call writes those of the new `ids`
    [n], which follow the first `past` positions, and returns a view of it.
    """
    end = past + len(ids)
    buffer[past:end] = 0
    if prefix:
        if features is not None and np.any(ids[: max(0, prefix - past)] == image_token_id):
            buffer[past : min(end, prefix)] = 1
    elif features is not None:
        for row in past + np.flatnonzero(ids == image_token_id)[: len(features)]:
            buffer[row] = (buffer[row - 1] if row else 0) or row + 1
    return buffer[:end]
