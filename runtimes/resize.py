"""Pillow's resize over all CPUs that this process may use: the same pixels, sooner.

Pillow resizes first along rows, then along columns, rounds to 8 bits in between and uses one
thread. No row sees another in the first pass and no column in the second, so strips of them are
resized side by side. NOT aware of recipes or tiles.
"""

import os
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import pairwise

from PIL import Image

Size = tuple[int, int]
"""Width and height in pixels, as in Pillow."""
SMALL = 1 << 19
"""Pixels, read and written, up to which threads do not pay."""
MOST_THREADS = 8


def resize(image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
    """`image.resize(size, resample)` to the bit, of an image with 8 bits a channel."""
    threads = min(MOST_THREADS, _cpus())
    if threads == 1 or image.width * image.height + size[0] * size[1] <= SMALL:
        return image.resize(size, resample)
    with ThreadPoolExecutor(threads) as pool:
        rows = [(0, top, image.width, bottom) for top, bottom in _cut(image.height, threads)]
        wide = _by_strips(image, rows, (size[0], None), resample, pool)
        columns = [(left, 0, right, image.height) for left, right in _cut(size[0], threads)]
        return _by_strips(wide, columns, (None, size[1]), resample, pool)


def _by_strips(
    image: Image.Image,
    boxes: list[tuple[int, int, int, int]],
    edges: tuple[int | None, int | None],
    resample: Image.Resampling,
    pool: Executor,
) -> Image.Image:
    """The boxes resized along the edge that is given; the other one's stays."""

    def strip(box: tuple[int, int, int, int]) -> Image.Image:
        part = image.crop(box)
        return part.resize((edges[0] or part.width, edges[1] or part.height), resample)

    whole = Image.new(image.mode, (edges[0] or image.width, edges[1] or image.height))
    for box, part in zip(boxes, pool.map(strip, boxes), strict=True):
        whole.paste(part, box[:2])
    return whole


def _cut(length: int, parts: int) -> list[tuple[int, int]]:
    """[start, stop) of at most so many parts of about the same length."""
    return list(pairwise(sorted({length * n // parts for n in range(parts + 1)})))


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
