"""Gives memory back to the system that libraries have freed."""

import ctypes


def give_back() -> None:
    """Gives memory back to the system that is freed but kept by the C library (glibc only).

    After the constants of an int4 tower are folded, that is more than twice the tower's size.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
