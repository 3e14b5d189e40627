"""Baseline: runs a text model in OpenVINO GenAI, in the format of optimum-intel's export."""

from export.artifact import Artifact
from runtimes.peers.program import ProgramSession, opened


def open_session(artifact: Artifact, *, threads: int, device: str = "cpu") -> ProgramSession:
    """Loads a folder that optimum-intel wrote (see `bench peers`); text alone, CPU only."""
    return opened("openvino", "openvino_text", artifact.path, threads)
