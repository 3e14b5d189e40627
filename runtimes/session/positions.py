"""Positions of a prompt's tokens on three axes: time, row and column.

For decoders with three-axis rotary embeddings (Qwen2-VL report, 2024). For all other decoders the
three axes are equal: the token's index in the prompt.
"""

from collections.abc import Iterable

import numpy as np

from export.arrays import IntArray

TokenGrid = tuple[int, int]
"""Rows and columns of an image's tokens."""


def prompt_positions(
    ids: IntArray, image_token_id: int | None, grids: Iterable[TokenGrid]
) -> IntArray:
    """Time, row and column [3, n] of a prompt's ids.

    `grids` are those of the images in the prompt's order; images without one count as text. All
    tokens of an image have one time position; its rows and columns count from the same number. The
    text after an image continues one after the largest of the three.
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
    """Positions [3, count] of `count` tokens after a prompt with positions [3, n]; n may be 0."""
    return text_positions(int(prompt.max()) + 1 if prompt.size else 0, count)


def text_positions(start: int, count: int) -> IntArray:
    """Positions [3, count] that count from `start`, equal on all axes."""
    return np.repeat(np.arange(start, start + count)[None], 3, axis=0)
