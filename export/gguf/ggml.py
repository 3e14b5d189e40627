"""Quantizes with ggml's C code from llama-cpp-python, for types that gguf-py can only read."""

import ctypes
import importlib
import os
from collections import deque
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from export.ahead import ahead
from export.arrays import FloatArray
from export.errors import UserError


def quantize(values: FloatArray, kind: GGMLQuantizationType) -> NDArray[np.uint8]:
    """Quantizes float rows [n, columns] to the ggml type `kind`: uint8 [n, bytes of a row].

    The bytes equal those that llama-quantize writes without an importance matrix. Raises UserError
    if llama-cpp-python is not installed.
    """
    values = np.ascontiguousarray(values, np.float32).reshape(-1, values.shape[-1])
    rows, columns = values.shape
    block, size = GGML_QUANT_SIZES[kind]
    packed = np.empty((rows, columns // block * size), np.uint8)
    workers = len(os.sched_getaffinity(0))
    edges = [rows * n // workers for n in range(workers + 1)]
    chunk = _quantize_chunk()

    def part(n: int) -> None:
        source, found = values[edges[n] : edges[n + 1]], packed[edges[n] : edges[n + 1]]
        if len(source):
            addresses = source.ctypes.data, found.ctypes.data
            chunk(int(kind), *addresses, 0, len(source), columns, None)

    deque(ahead(part, range(workers), workers), maxlen=0)  # C code releases the interpreter's lock
    return packed


@cache
def _quantize_chunk() -> Any:
    """Loads ggml's C function ggml_quantize_chunk from llama-cpp-python.

    ggml.h has its arguments: type, source, target, start, rows, columns, importances. Raises
    UserError if llama-cpp-python is not installed.
    """
    if find_spec("llama_cpp") is None:
        raise UserError(
            "this recipe needs ggml's quantizers, but llama_cpp is not installed "
            "(pip install 'pocket-vlm[llama-cpp]')"
        )
    function = importlib.import_module("llama_cpp.llama_cpp")._lib.ggml_quantize_chunk
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [ctypes.c_int, pointer, pointer, number, number, number, pointer]
    function.restype = ctypes.c_size_t
    return function
