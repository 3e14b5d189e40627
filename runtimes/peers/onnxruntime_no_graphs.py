"""Baseline: the onnxruntime runtime on a GPU without CUDA graphs.

Each decode step launches all its kernels, which shows how much time CUDA graphs save.
"""

from export.artifact import Artifact
from runtimes.base import Session
from runtimes.onnxruntime.session import open_session as open_onnxruntime


def open_session(artifact: Artifact, *, threads: int, device: str = "cuda") -> Session:
    """Loads an ONNX artifact as the onnxruntime runtime does, but without CUDA graphs."""
    return open_onnxruntime(artifact, threads=threads, device=device, capture=False)
