"""What llama.cpp says goes to Python's logging instead of stderr; its last complaints are kept.

NOT aware of what it was doing.
"""

import ctypes
import functools
import logging
from collections import deque
from typing import Any

from llama_cpp import llama_cpp as llama
from llama_cpp import mtmd_cpp as mtmd

LOG = logging.getLogger(__name__)
ERROR = 4  # GGML_LOG_LEVEL_ERROR (ggml.h)
KEPT = 8


class _Complaints(logging.Handler):
    """Also keeps logging from writing to stderr where a program has not asked for it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: deque[str] = deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _write(level: int, text: bytes, _: Any) -> None:
    found = logging.ERROR if level == ERROR else logging.DEBUG
    LOG.log(found, "%s", text.decode(errors="replace").rstrip())


_complaints = _Complaints()
_write_c = llama.llama_log_callback(_write)  # held: llama.cpp keeps only its address


@functools.cache
def silence() -> None:
    """Once a process: llama.cpp and mtmd write to this module's log instead of stderr."""
    LOG.addHandler(_complaints)
    llama.llama_log_set(_write_c, ctypes.c_void_p())
    mtmd.mtmd_log_set(_write_c, ctypes.c_void_p())
    mtmd.mtmd_helper_log_set(_write_c, ctypes.c_void_p())
    llama.llama_backend_init()


def complaints() -> str:
    """Its last errors, the oldest first, which are then forgotten; empty where there was none."""
    found = " ".join(_complaints.texts)
    _complaints.texts.clear()
    return found
