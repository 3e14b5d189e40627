"""The onnxruntime runtime on a GPU without CUDA graphs: each step launches all its kernels.

Baseline that shows how much time CUDA graphs save.
"""

from export.artifact import Artifact
from runtimes.base import Session
from runtimes.onnxruntime.session import open_session as open_onnxruntime


def open_session(artifact: Artifact, *, threads: int, device: str = "cuda") -> Session:
    """Load an ONNX artifact (see runtimes.onnxruntime.session.open_session)."""
    return open_onnxruntime(artifact, threads=threads, device=device, capture=False)
