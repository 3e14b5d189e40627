"""One ONNX graph loaded into ONNX Runtime, with the settings that all graphs share.

NOT aware of what a graph computes.
"""

import ctypes
from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

from export.errors import UserError

PROVIDERS: Mapping[str, str] = {"cpu": "CPUExecutionProvider"}


def open_graph(path: Path, threads: int, device: str = "cpu") -> ort.InferenceSession:
    """Load one graph. Raises UserError for a device that there is not."""
    if device not in PROVIDERS:
        raise UserError(f"onnxruntime has no device '{device}' here; known: {', '.join(PROVIDERS)}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads of one session must not wait busily while another session has the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Planned for each new length of the inputs and kept beside what the arena holds already.
    options.enable_mem_pattern = False
    session = ort.InferenceSession(path, options, providers=[PROVIDERS[device]])
    give_back()
    return session


def inputs_of(graph: ort.InferenceSession) -> frozenset[str]:
    """Names of its inputs: what a layout (export.onnx.layouts) has of them."""
    return frozenset(value.name for value in graph.get_inputs())


def give_back() -> None:
    """Return what the C library keeps of the memory that was freed (glibc only).

    Folding the constants of an int4 tower leaves more than twice the tower behind.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
