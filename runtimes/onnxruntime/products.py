"""Decides whether a tower's integer products take signed or unsigned weights on this CPU.

x86 CPUs with VNNI multiply unsigned by signed bytes and add in 32 bits: exact, and more than twice
as fast as unsigned by unsigned ones. Those without it add two products in 16 bits, which saturate.
"""

import platform
from functools import cache

import numpy as np
import onnxruntime as ort

SIGNED, UNSIGNED = "signed weights", "unsigned weights"
_X86 = ("x86_64", "AMD64")
_PRODUCT = (
    b'\x08\x08:=\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x00Z\t\n\x01a\x12\x04\n\x02\x08'
    b"\x02Z\t\n\x01b\x12\x04\n\x02\x08\x03b\t\n\x01y\x12\x04\n\x02\x08\x06B\x04\n\x00\x10\r"
)
"""An ONNX graph of one node: MatMulInteger of uint8 `a` and int8 `b`."""
_ROWS, _INNER, _COLUMNS = 16, 64, 32


def signed_is_better() -> bool:
    """Whether products of signed weights are exact on this CPU, and not slower.

    Only x86 is asked: elsewhere neither sign was measured to be faster.
    """
    return platform.machine() in _X86 and _signed_is_exact()


@cache
def _signed_is_exact() -> bool:
    """Multiplies the largest activations by the largest weights of both signs in ONNX Runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(_PRODUCT, options, providers=["CPUExecutionProvider"])
    a = np.full((_ROWS, _INNER), 255, np.uint8)
    b = np.full((_INNER, _COLUMNS), 127, np.int8)
    b[:, ::2] = -128
    (found,) = session.run(None, {"a": a, "b": b})
    return bool(np.array_equal(found, a.astype(np.int32) @ b.astype(np.int32)))
