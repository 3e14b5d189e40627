"""Sends llama.cpp's messages to Python's logging instead of stderr, and keeps the last errors."""

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
    """Keeps the last errors; a logger with a handler also does not write to stderr by default."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: deque[str] = deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _write(level: int, text: bytes, _: Any) -> None:
    severity = logging.ERROR if level == ERROR else logging.DEBUG
    LOG.log(severity, "%s", text.decode(errors="replace").rstrip())


_complaints = _Complaints()
_write_c = llama.llama_log_callback(_write)  # kept alive: llama.cpp only has its address


@functools.cache
def silence() -> None:
    """Redirects the messages of llama.cpp and mtmd to logging, and initialises llama.cpp.

    Later calls in the same process do nothing.
    """
    LOG.addHandler(_complaints)
    llama.llama_log_set(_write_c, ctypes.c_void_p())
    mtmd.mtmd_log_set(_write_c, ctypes.c_void_p())
    mtmd.mtmd_helper_log_set(_write_c, ctypes.c_void_p())
    llama.llama_backend_init()


def complaints() -> str:
    """Returns the errors that llama.cpp has reported since the last call, and forgets them.

    They are joined by spaces, the oldest first; of more than KEPT errors, only the last KEPT.
    """
    texts = " ".join(_complaints.texts)
    _complaints.texts.clear()
    return texts
