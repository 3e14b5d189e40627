"""The onnxruntime runtime: embedding graph on the CPU, vision tower and decoder on the device."""

from functools import partial

import onnxruntime as ort

from export.artifact import Artifact, verify_digests
from export.errors import UserError
from runtimes.base import Logits, Session
from runtimes.devices import CPU, Device, device_of
from runtimes.graphs.backend import GraphBackend, expect_context
from runtimes.graphs.decoder import GraphDecoder, expect_cache
from runtimes.nvidia import memory_errors
from runtimes.onnxruntime.decoder import HostDecoder
from runtimes.onnxruntime.device import DeviceDecoder
from runtimes.onnxruntime.embedding import OnnxEmbedding
from runtimes.onnxruntime.graph import inputs_of, open_graph, running
from runtimes.onnxruntime.regions import OnnxRegionHeads
from runtimes.onnxruntime.tower import OnnxTower
from runtimes.prepare.request import preparer_of
from runtimes.session.backend import Extend, VisionTower, context_length
from runtimes.session.loop import GreedySession

CUDA = "cuda"
"""Name of the layout whose graphs can run on a GPU."""


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


class OnnxBackend(GraphBackend):
    """Runs an ONNX artifact's graphs in ONNX Runtime for a GreedySession (ThreadedBackend)."""

    def __init__(
        self,
        artifact: Artifact,
        threads: int,
        context: int,
        *,
        device: Device = CPU,
        capture: bool = True,
        load_tower: bool = True,
        kleidiai: bool = True,
    ) -> None:
        """`capture`: use CUDA graphs on a GPU. `load_tower`: False: images cannot be encoded.
        `kleidiai`: on Arm, use KleidiAI's kernels (open_graph)."""
        _check(artifact, device, context)
        self._artifact, self._kleidiai = artifact, kleidiai
        self.choices: dict[str, str] = {}
        """How the machine's kind decided that parts of the model are computed (ChoosingBackend)."""
        tower = self._opened_tower(threads, device) if load_tower else None
        # On the CPU: a step reads one row, so the table would only take memory on a GPU.
        embed = open_graph(artifact.file("embedding"), 1)
        super().__init__(
            artifact,
            context,
            tower=tower,
            embedding=OnnxEmbedding(embed, artifact.manifest.vlm, artifact.path),
            decoder=self._opened_decoder(threads, context, device, capture),
            open_heads=partial(OnnxRegionHeads, artifact, threads, device, kleidiai=kleidiai),
            most=None if device == CPU else context,
        )

    def _opened_tower(self, threads: int, device: Device) -> VisionTower:
        """Loads the tower's graphs; chooses the sign of the weights in its integer products."""
        tower = OnnxTower(self._artifact, threads, device, kleidiai=self._kleidiai)
        self.choices |= tower.choices
        return tower

    def _opened_decoder(
        self, threads: int, context: int, device: Device, capture: bool
    ) -> GraphDecoder:
        """Loads the decoder graph; returns a DeviceDecoder for layout cuda, else a HostDecoder."""
        artifact, text = self._artifact, self._artifact.manifest.vlm.text
        if artifact.manifest.layout != CUDA:
            open_with = partial(host_graph, artifact, self._kleidiai)
            return HostDecoder(open_with, threads, text, context)
        path, captured = artifact.file("decoder"), capture and device.kind == "cuda"
        graph = open_graph(path, threads, device, capture=captured)
        expect_cache(inputs_of(graph), text, path)
        with memory_errors("while the cache was made"):
            return DeviceDecoder(graph, text, context, device, captured)

    def extend(self, step: Extend) -> Logits:
        """Runs the decoder on a step's tokens; returns the last one's logits [vocab] (Backend)."""
        with running(self._artifact.path):
            return super().extend(step)

    def use_threads(self, threads: int) -> None:
        """Computes decoder steps with so many threads; the tower keeps its own (ThreadedBackend).

        Loading a tower again may take several times its size in memory. Raises UserError if a file
        of the artifact has changed since its export.
        """
        if isinstance(self._decoder, HostDecoder):
            verify_digests(self._artifact)
            self._decoder.use_threads(threads)


def host_graph(artifact: Artifact, kleidiai: bool, threads: int) -> ort.InferenceSession:
    """Loads the decoder graph of a CPU layout. `kleidiai`: see open_graph."""
    path = artifact.file("decoder")
    graph = open_graph(path, threads, steps=True, kleidiai=kleidiai)
    expect_cache(inputs_of(graph), artifact.manifest.vlm.text, path)
    return graph


def _check(artifact: Artifact, device: Device, context: int) -> None:
    """Raises UserError for a context or a device that the artifact does not support."""
    layout = artifact.manifest.layout
    expect_context(artifact, context)
    if device != CPU and layout != CUDA:
        raise UserError(
            f"{artifact.path} has layout {layout}, whose attention is float32, but onnxruntime's "
            f"attention on a GPU only takes float16; export with --layout {CUDA}"
        )
