"""The onnxruntime runtime: embedding graph on the CPU, vision tower and decoder on the device."""

from export.artifact import Artifact
from runtimes.base import Session
from runtimes.devices import device_of
from runtimes.onnxruntime.backend import OnnxBackend
from runtimes.prepare.request import preparer_of
from runtimes.session.backend import context_length
from runtimes.session.loop import GreedySession


def open_session(
    artifact: Artifact,
    *,
    threads: int,
    device: str = "cpu",
    context: int | None = None,
    capture: bool = True,
    kleidiai: bool = True,
) -> Session:
    """Loads an ONNX artifact into ONNX Runtime and returns the session.

    `device`: "cpu", "cuda" or "cuda:N". `context`: positions of the key-value cache (default: the
    model's limit, at most CONTEXT). `capture`: on a GPU, capture decode steps as CUDA graphs and
    replay them. `kleidiai`: on Arm, use KleidiAI's kernels (open_graph). Raises UserError for a
    context or a device that the artifact does not support.
    """
    manifest, where = artifact.manifest, device_of(device)
    backend = OnnxBackend(
        artifact,
        threads,
        context_length(manifest.vlm, context),
        device=where,
        capture=capture,
        kleidiai=kleidiai,
    )
    return GreedySession(backend, preparer_of(artifact), manifest.vlm.stop_token_ids)
