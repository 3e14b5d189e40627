"""Copies a llama.cpp decoder's state before the output norm, which region heads read.

The embeddings that llama.cpp itself returns are taken after that norm.
"""

import ctypes
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as llama

from export.arrays import FloatArray
from export.modeling.decoder import Decoder

_get_name = llama._lib.ggml_get_name
_get_name.argtypes, _get_name.restype = [ctypes.c_void_p], ctypes.c_char_p
_nbytes = llama._lib.ggml_nbytes
_nbytes.argtypes, _nbytes.restype = [ctypes.c_void_p], ctypes.c_size_t
_tensor_get = llama._lib.ggml_backend_tensor_get
_tensor_get.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
_tensor_get.restype = None


class StateTap:
    """Copies the last layer's output to `state` [hidden] whenever llama.cpp computes it.

    `callback` is to be set as llama.cpp's cb_eval. The last layer only computes positions whose
    logits are requested (inp_out_ids), here one.
    """

    def __init__(self, text: Decoder) -> None:
        self.state: FloatArray = np.zeros(text.hidden, np.float32)
        self._name = b"l_out-%d" % (text.layers - 1)
        self.callback: Any = llama.ggml_backend_sched_eval_callback(self._on_tensor)

    def _on_tensor(self, tensor: int, ask: bool, _: object) -> bool:
        """Called by llama.cpp twice for a tensor: before (`ask`) and after it is computed.

        With `ask`, returns whether the second call is wanted; without, whether to go on computing.
        """
        if _get_name(tensor) != self._name:
            return not ask
        if not ask and _nbytes(tensor) == self.state.nbytes:  # empty where no logits are requested
            _tensor_get(tensor, self.state.ctypes.data, 0, self.state.nbytes)
        return True
