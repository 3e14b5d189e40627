"""Baseline: runs a text model in onnxruntime-genai, in the format of its own model builder.

Text only: the builder does not support the vision towers of our families.
"""

from export.artifact import Artifact
from runtimes.peers.program import ProgramSession, opened


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> ProgramSession:
    """Loads a folder that onnxruntime-genai's model builder wrote (see `bench peers`); CPU only."""
    return opened("genai", "genai_text", artifact.path, threads)
