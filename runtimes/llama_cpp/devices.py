"""Which of llama.cpp's devices compute: one GPU by number, or none. NOT aware of models' files.

A build with CUDA takes every GPU that it is not told to leave alone: with no layer on one, it still
sends large products there. So the CPU is an empty list of devices.
"""

import ctypes
from typing import Any

from llama_cpp import llama_cpp as llama

from export.errors import UserError
from runtimes.devices import CPU, Device

ALL_LAYERS = 1 << 20  # more than any model has, the output's counted

_by_name = llama._lib.ggml_backend_dev_by_name
_by_name.argtypes, _by_name.restype = [ctypes.c_char_p], ctypes.c_void_p


def gpu(device: Device) -> int | None:
    """ggml's handle of a GPU; None is the CPU. Raises UserError for one that llama.cpp lacks."""
    if device == CPU:
        return None
    found: int | None = _by_name(b"CUDA%d" % device.index)
    if not found:
        raise UserError(
            f"llama.cpp sees no GPU {device.index} here and would use the CPU; make setup-cuda"
        )
    return found


def model_settings(device: Device) -> Any:
    """Everything on that GPU, or nothing on any. Raises UserError as `gpu` does."""
    handle = gpu(device)
    settings = llama.llama_model_default_params()
    listed = (ctypes.c_void_p * 2)(handle, None)  # ends with the first NULL
    settings.devices = ctypes.addressof(listed)
    settings.kept = listed  # ctypes holds an address alone
    settings.n_gpu_layers = 0 if handle is None else ALL_LAYERS
    settings.split_mode, settings.main_gpu = llama.LLAMA_SPLIT_MODE_NONE, 0
    return settings
