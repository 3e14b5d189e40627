"""Runs an ONNX artifact's graphs in ONNX Runtime for a session."""

from functools import cached_property, partial

import numpy as np
import onnxruntime as ort

from export.arrays import FloatArray
from export.artifact import Artifact, verify_digests
from export.errors import UserError
from export.modeling.rotary import STORED_POSITIONS
from export.onnx.memory import prompt_step
from runtimes.base import Logits
from runtimes.devices import CPU, Device
from runtimes.graphs.decoder import GraphDecoder, expect_cache
from runtimes.nvidia import memory_errors
from runtimes.onnxruntime.decoder import HostDecoder
from runtimes.onnxruntime.device import DeviceDecoder
from runtimes.onnxruntime.embedding import OnnxEmbedding
from runtimes.onnxruntime.graph import inputs_of, open_graph, running
from runtimes.onnxruntime.regions import OnnxRegionHeads
from runtimes.onnxruntime.tower import OnnxTower
from runtimes.prepare.request import Pixels
from runtimes.session.backend import Extend, VisionTower
from runtimes.session.images import image_ids
from runtimes.session.regions import RegionHead

CUDA = "cuda"
"""Name of the layout whose graphs can run on a GPU."""


class OnnxBackend:
    """Runs an ONNX artifact's graphs for a GreedySession (ThreadedBackend, ChoosingBackend).

    It is a RegionBackend, too, if the artifact has region heads.
    """

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
        vlm = artifact.manifest.vlm
        self.context = context
        self.choices: dict[str, str] = {}
        """How the machine's kind decided that parts of the model are computed (ChoosingBackend)."""
        self._artifact, self._vlm, self._kleidiai = artifact, vlm, kleidiai
        self._most = prompt_step(vlm) if device == CPU else context
        """How many positions of a prompt run at once."""
        self._tower = self._opened_tower(threads, device) if load_tower else None
        # On the CPU: a step reads one row, so the table would only take memory on a GPU.
        table = open_graph(artifact.file("embedding"), 1)
        self._embedding = OnnxEmbedding(table, vlm, artifact.path)
        self._decoder = self._opened_decoder(threads, context, device, capture)
        self._open_heads = partial(OnnxRegionHeads, artifact, threads, device, kleidiai=kleidiai)
        self._image_ids = np.zeros(context, np.int64)

    def _opened_tower(self, threads: int, device: Device) -> VisionTower:
        """Loads the tower's graphs; chooses the sign of the weights in its integer products."""
        tower = OnnxTower(self._artifact, threads, device, kleidiai=self._kleidiai)
        self.choices |= tower.choices
        return tower

    def _opened_decoder(
        self, threads: int, context: int, device: Device, capture: bool
    ) -> GraphDecoder:
        """Loads the decoder graph; returns a DeviceDecoder for layout cuda, else a HostDecoder."""
        artifact, text = self._artifact, self._vlm.text
        if artifact.manifest.layout != CUDA:
            open_with = partial(host_graph, artifact, self._kleidiai)
            return HostDecoder(open_with, threads, text, context)
        path, captured = artifact.file("decoder"), capture and device.kind == "cuda"
        graph = open_graph(path, threads, device, capture=captured)
        expect_cache(inputs_of(graph), text, path)
        with memory_errors("while the cache was made"):
            return DeviceDecoder(graph, text, context, device, captured)

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Returns the features of all images in order: [image tokens, hidden] (Backend)."""
        assert self._tower is not None
        return self._tower.encode(images)

    def extend(self, step: Extend) -> Logits:
        """Runs the decoder on a step's tokens; returns the last one's logits [vocab] (Backend).

        A long prompt runs in parts, which bounds the memory of activations.
        """
        with running(self._artifact.path):
            *_, last = map(self._extended, step.parts_for(self._vlm, self._most))
        return last

    def _extended(self, step: Extend) -> Logits:
        ids, features, past, positions = step
        token, prefix = self._vlm.image_token_id, self._vlm.text.prefix
        images = image_ids(self._image_ids, ids, features, past, token, prefix)
        embeds = self._embedding.rows(ids, features)
        return self._decoder.extend(embeds, past, images, positions)

    def use_threads(self, threads: int) -> None:
        """Computes decoder steps with so many threads; the tower keeps its own (ThreadedBackend).

        Loading a tower again may take several times its size in memory. Raises UserError if a file
        of the artifact has changed since its export.
        """
        if isinstance(self._decoder, HostDecoder):
            verify_digests(self._artifact)
            self._decoder.use_threads(threads)

    def close(self) -> None:
        """Frees the model's memory (Backend)."""
        del self._embedding, self._decoder
        self.__dict__.pop("_heads", None)
        if self._tower is not None:
            self._tower.close()

    @cached_property
    def _heads(self) -> OnnxRegionHeads:
        """Returns the region heads; the first use loads them."""
        return self._open_heads()

    @property
    def state(self) -> FloatArray:
        """Returns the decoder's state before the output norm at the last position: [hidden]."""
        return self._decoder.state

    def region_embeddings(self, head: RegionHead, values: FloatArray) -> FloatArray:
        """Returns embeddings [n, hidden] of coordinates or sizes (RegionBackend)."""
        return self._heads.embeddings(head, values)

    def region_logits(self, head: RegionHead) -> FloatArray:
        """Returns logits over the coordinates or sizes that may come next (RegionBackend)."""
        return self._heads.logits(head, self._decoder.state)


def host_graph(artifact: Artifact, kleidiai: bool, threads: int) -> ort.InferenceSession:
    """Loads the decoder graph of a CPU layout. `kleidiai`: see open_graph."""
    path = artifact.file("decoder")
    graph = open_graph(path, threads, steps=True, kleidiai=kleidiai)
    expect_cache(inputs_of(graph), artifact.manifest.vlm.text, path)
    return graph


def _check(artifact: Artifact, device: Device, context: int) -> None:
    """Raises UserError for a context or a device that the artifact does not support."""
    layout, path = artifact.manifest.layout, artifact.path
    most = min(artifact.manifest.vlm.text.context, STORED_POSITIONS)
    if context > most:
        raise UserError(
            f"{path}: a context of {context} was asked for, but the model has {most} positions; "
            f"ask for a shorter one"
        )
    if device != CPU and layout != CUDA:
        raise UserError(
            f"{path} has layout {layout}, whose attention is float32, but onnxruntime's attention "
            f"on a GPU only takes float16; export with --layout {CUDA}"
        )
