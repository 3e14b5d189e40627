"""Image tokens in a decoder's input: which rows are features, and which image a position is of."""

import numpy as np

from export.arrays import FloatArray, IntArray


def place_features(
    embeddings: FloatArray, ids: IntArray, features: FloatArray | None, image_token_id: int | None
) -> None:
    """Overwrite the embeddings [n, hidden] of image tokens with the rows of `features`, in order.

    Image tokens beyond the last row belong to an answer and keep their embedding.
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
    """For each position the number of its image, for decoders with bidirectional image attention.

    `buffer` [context] holds the results of earlier calls; this call fills in those of the new `ids`
    after the first `past` positions and returns a view of all so far, [past + n]. Text is 0; the
    tokens of one image share a number above 0, and neighbouring image tokens are one image. Image
    tokens beyond the rows of `features` count as text. With a `prefix` (Decoder.prefix) the first
    positions are image 1 if an image token is among them, and all others are 0.
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
