"""Where each position of a prompt is: in time, and inside images of any size in rows and columns.

For decoders with three-axis rotary positions (Qwen2-VL report, 2024); where the axes are not told
apart, all three are the place in the prompt. NOT aware of models or runtimes.
"""

from collections.abc import Iterable

import numpy as np

from runtimes.base import IntArray

Cells = tuple[int, int]
"""Rows and columns of an image's tokens."""


def positions(ids: IntArray, image_token_id: int | None, images: Iterable[Cells]) -> IntArray:
    """Time, row and column [3, n] of the prompt's ids, in which the images' tokens stand in order.

    All tokens of an image have one time; its rows and columns count from there, and what follows it
    goes on behind the longest of the three.
    """
    found = np.empty((3, len(ids)), np.int64)
    place = then = 0  # the first id without a position, and the position it gets
    starts = np.flatnonzero(ids == image_token_id)
    for rows, cols in images:
        start = int(starts[np.searchsorted(starts, place)])
        text, end = np.arange(start - place), start + rows * cols
        found[:, place:start] = then + text
        then += len(text)
        cell = np.arange(rows * cols)
        found[:, start:end] = then + np.stack([np.zeros_like(cell), cell // cols, cell % cols])
        place, then = end, then + max(rows, cols)
    found[:, place:] = then + np.arange(len(ids) - place)
    return found


def following(before: IntArray, count: int) -> IntArray:
    """Positions [3, count] of text behind positions [3, n], which may be none."""
    return of_text(int(before.max()) + 1 if before.size else 0, count)


def of_text(start: int, count: int) -> IntArray:
    """Positions [3, count] from `start` on."""
    return np.repeat(np.arange(start, start + count)[None], 3, axis=0)
