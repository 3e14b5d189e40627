"""Puts files into the system's page cache, or drops them from it, before they are loaded."""

import ctypes
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

CHUNK_BYTES = 1 << 24
DROPPED = 0.01  # share of pages that may remain for a file to count as gone


def warm(files: Sequence[Path]) -> None:
    """Put the files into the page cache by reading every byte once."""
    buffer = bytearray(CHUNK_BYTES)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def drop(files: Sequence[Path]) -> bool:
    """Ask the system to drop the files from its page cache; returns whether (almost) all are gone.

    The system keeps pages that another process maps, and those of file systems in memory. False if
    there are no files.
    """
    if not files or not hasattr(os, "posix_fadvise"):
        return False
    for path in files:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)  # pages not yet written are not dropped
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)
    cached, pages = (sum(part) for part in zip(*map(resident, files), strict=True))
    return bool(cached <= DROPPED * pages)


def resident(path: Path) -> tuple[int, int]:
    """Return how many pages of a file are in memory, and how many it has (man 2 mincore)."""
    size = path.stat().st_size
    pages = -(-size // mmap.PAGESIZE)
    if not pages:
        return 0, 0
    flags = (ctypes.c_ubyte * pages)()
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE) as view:
        held = ctypes.c_char.from_buffer(view)
        failed = ctypes.CDLL(None).mincore(
            ctypes.c_void_p(ctypes.addressof(held)), ctypes.c_size_t(size), flags
        )
        del held
    return (pages if failed else sum(value & 1 for value in flags)), pages
