"""The onnxruntime runtime on a GPU without CUDA graphs: every kernel of a step launched anew.

The yardstick of what capturing a step is worth.
"""

from export.artifact import Artifact
from runtimes import onnxruntime_
from runtimes.base import Session


def open_session(artifact: Artifact, *, threads: int, device: str = "cuda") -> Session:
    """As of runtimes.onnxruntime_."""
    return onnxruntime_.open_session(artifact, threads=threads, device=device, capture=False)
