"""Baseline: the onnxruntime runtime on an Arm CPU without KleidiAI's kernels.

ONNX Runtime's own kernels round activations in blocks, as on x86-64, which shows what KleidiAI
gains in time and loses in accuracy (docs/notes/2026-11-arm.md). It changes nothing on other CPUs.
"""

from export.artifact import Artifact
from runtimes.base import Session
from runtimes.onnxruntime.session import open_session as open_onnxruntime


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> Session:
    """Loads an ONNX artifact as the onnxruntime runtime does, but without KleidiAI's kernels."""
    return open_onnxruntime(artifact, threads=threads, device=device, kleidiai=False)
