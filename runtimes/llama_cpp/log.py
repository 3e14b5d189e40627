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
    """Redirect llama.cpp's and mtmd's messages, and initialise llama.cpp; once per process."""
    LOG.addHandler(_complaints)
    llama.llama_log_set(_write_c, ctypes.c_void_p())
    mtmd.mtmd_log_set(_write_c, ctypes.c_void_p())
    mtmd.mtmd_helper_log_set(_write_c, ctypes.c_void_p())
    llama.llama_backend_init()


def complaints() -> str:
    """The errors since the last call, the oldest first, at most KEPT of them."""
    texts = " ".join(_complaints.texts)
    _complaints.texts.clear()
    return texts
