"""The onnxruntime runtime on a GPU without CUDA graphs: every kernel of a step launched anew.

The yardstick of what capturing a step is worth.
"""

from export.artifact import Artifact
from runtimes.base import Session
from runtimes.onnxruntime.session import open_session as open_onnxruntime


def open_session(artifact: Artifact, *, threads: int, device: str = "cuda") -> Session:
    """As of runtimes.onnxruntime.session."""
    return open_onnxruntime(artifact, threads=threads, device=device, capture=False)
