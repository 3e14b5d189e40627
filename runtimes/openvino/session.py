"""The openvino runtime: ONNX artifacts in OpenVINO, on the CPU.

Prompts are faster than in ONNX Runtime on some CPUs, decode steps are slower
(docs/notes/2026-11-openvino.md).
"""

from export.artifact import Artifact
from runtimes.base import Session
from runtimes.graphs.backend import GraphBackend, expect_context
from runtimes.graphs.embedding import Embedding
from runtimes.graphs.regions import GraphRegionHeads
from runtimes.graphs.tower import GraphTower
from runtimes.openvino.decoder import OpenvinoDecoder
from runtimes.openvino.graph import Loader
from runtimes.prepare.request import preparer_of
from runtimes.session.backend import context_length
from runtimes.session.loop import GreedySession


def open_session(
    artifact: Artifact, *, threads: int, device: str = "cpu", context: int | None = None
) -> Session:
    """Loads an ONNX artifact into OpenVINO and returns the session; CPU only.

    `context`: positions of the key-value cache (default: the model's limit, at most CONTEXT).
    Raises UserError for a context that the model does not support.
    """
    vlm = artifact.manifest.vlm
    backend = opened(artifact, threads, context_length(vlm, context))
    return GreedySession(backend, preparer_of(artifact), vlm.stop_token_ids)


def opened(artifact: Artifact, threads: int, context: int) -> GraphBackend:
    """Returns the artifact's graphs, loaded into OpenVINO (Backend)."""
    expect_context(artifact, context)
    vlm, path, loader = artifact.manifest.vlm, artifact.path, Loader(artifact.path, threads)
    tower = GraphTower(vlm, lambda part: loader.graph(artifact.file(part)))
    decoder = loader.compiled(artifact.file("decoder"))
    return GraphBackend(
        artifact,
        context,
        tower=tower,
        embedding=Embedding(loader.graph(artifact.file("embedding")), vlm, path),
        decoder=OpenvinoDecoder(decoder, vlm.text, context, artifact.file("decoder")),
        open_heads=lambda: GraphRegionHeads(loader.graph(artifact.file("region"))),
    )
