"""Computes positions of tokens on three axes: time, row and column.

They are for decoders with three-axis rotary embeddings (Qwen2-VL report, 2024). For all other
decoders the three axes are equal: the token's index in the prompt.
"""

from collections.abc import Iterable

import numpy as np

from export.arrays import IntArray

TokenGrid = tuple[int, int]
"""Number of rows and of columns in which an image's tokens are arranged."""


def prompt_positions(
    ids: IntArray, image_token_id: int | None, grids: Iterable[TokenGrid]
) -> IntArray:
    """Returns time, row and column [3, n] of each token of a prompt.

    `grids`: rows and columns of tokens of the images, in the prompt's order; image tokens without a
    grid count as text. Text has the same number on all axes, counting up. An image starts at the
    next number: all its tokens have it as their time, and rows and columns count up from it. The
    text after the image continues after the largest of these numbers.
    """
    result = np.empty((3, len(ids)), np.int64)
    index = position = 0  # the first id without a position, and the position it will get
    starts = np.flatnonzero(ids == image_token_id)
    for rows, cols in grids:
        start = int(starts[np.searchsorted(starts, index)])
        text, end = np.arange(start - index), start + rows * cols
        result[:, index:start] = position + text
        position += len(text)
        cell = np.arange(rows * cols)
        result[:, start:end] = position + np.stack([np.zeros_like(cell), cell // cols, cell % cols])
        index, position = end, position + max(rows, cols)
    result[:, index:] = position + np.arange(len(ids) - index)
    return result


def answer_positions(prompt: IntArray, count: int) -> IntArray:
    """Returns the positions [3, count] of the next `count` tokens after a prompt.

    `prompt` [3, n] are the prompt's positions; n may be 0.
    """
    return text_positions(int(prompt.max()) + 1 if prompt.size else 0, count)


def text_positions(start: int, count: int) -> IntArray:
    """Returns positions [3, count] that count up from `start`, equal on all three axes."""
    return np.repeat(np.arange(start, start + count)[None], 3, axis=0)
