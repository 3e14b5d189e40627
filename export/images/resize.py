"""Resizes the three channels of an image in three threads: Pillow's pixels, but sooner.

Pillow resizes in one thread and lets others run meanwhile. Channels do not depend on each other;
each alone takes less than half the time of all three.
"""

import os
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

Size = tuple[int, int]
"""Width and height in pixels, as in Pillow."""
CHANNELS = 3
SMALL = 1 << 19
"""Pixels read and written up to which threads take longer than they save."""


def resize(image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
    """Resizes an RGB image to (width, height); every pixel equals that of `image.resize`."""
    small = image.width * image.height + size[0] * size[1] <= SMALL
    if small or _cpus() < CHANNELS:
        return image.resize(size, resample)
    with ThreadPoolExecutor(CHANNELS) as pool:
        resized = pool.map(lambda channel: channel.resize(size, resample), image.split())
        return Image.merge(image.mode, tuple(resized))


def _cpus() -> int:
    """Returns how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
