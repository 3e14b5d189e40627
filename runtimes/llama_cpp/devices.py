"""Makes llama.cpp's settings that place a model on one GPU, or on the CPU alone.

A build of llama.cpp with CUDA uses every GPU that is not excluded: even with no layer on a GPU, it
sends large products there. So for the CPU the list of devices is empty.
"""

import ctypes
from typing import Any

from llama_cpp import llama_cpp as llama

from export.errors import UserError
from runtimes.devices import CPU, Device

ALL_LAYERS = 1 << 20  # more than any model has, the output layer included

_by_name = llama._lib.ggml_backend_dev_by_name
_by_name.argtypes, _by_name.restype = [ctypes.c_char_p], ctypes.c_void_p


def gpu(device: Device) -> int | None:
    """Returns llama.cpp's handle of a GPU (a pointer); None if `device` is the CPU.

    Raises UserError if llama.cpp does not find the GPU.
    """
    if device == CPU:
        return None
    handle: int | None = _by_name(b"CUDA%d" % device.index)
    if not handle:
        raise UserError(
            f"llama.cpp sees no GPU {device.index} here and would use the CPU; make setup-cuda"
        )
    return handle


def model_settings(device: Device) -> Any:
    """Returns llama.cpp's settings to load a model on a device (llama_model_params).

    Raises UserError if llama.cpp does not find the GPU.
    """
    handle = gpu(device)
    settings = llama.llama_model_default_params()
    devices = (ctypes.c_void_p * 2)(handle, None)  # a list that ends with NULL
    settings.devices = ctypes.addressof(devices)
    settings.kept = devices  # keeps it alive: `devices` is only an address
    settings.n_gpu_layers = 0 if handle is None else ALL_LAYERS
    settings.split_mode, settings.main_gpu = llama.LLAMA_SPLIT_MODE_NONE, 0
    return settings
