"""The onnxruntime runtime: embedding graph on the CPU, vision tower and decoder on the device."""

from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from export.arrays import FloatArray, IntArray
from export.artifact import Artifact, verify_digests
from export.errors import UserError
from export.modeling.rotary import STORED_POSITIONS
from runtimes.base import Logits, Session
from runtimes.devices import CPU, Device, device_of
from runtimes.nvidia import memory_errors
from runtimes.onnxruntime.decoder import HostDecoder, OnnxDecoder, expect_cache
from runtimes.onnxruntime.device import DeviceDecoder
from runtimes.onnxruntime.graph import inputs_of, open_graph, running
from runtimes.onnxruntime.regions import OnnxRegionHeads
from runtimes.onnxruntime.tower import OnnxTower
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.backend import Extend, context_length
from runtimes.session.images import image_ids, place_features
from runtimes.session.loop import GreedySession
from runtimes.session.regions import RegionHead

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


class OnnxBackend:
    """Runs an ONNX artifact's graphs for a GreedySession (Backend).

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
        manifest = artifact.manifest
        self._vlm, self._text = manifest.vlm, manifest.vlm.text
        self._image_token_id = manifest.vlm.image_token_id
        _check(artifact, device, context)
        self.context, self._artifact = context, artifact
        self._kleidiai = kleidiai
        self._tower = (
            OnnxTower(artifact, threads, device, kleidiai=kleidiai) if load_tower else None
        )
        # On the CPU: a step reads one row, so the table would only take memory on a GPU.
        self._embed = open_graph(artifact.file("embedding"), 1)
        self._decoder = self._opened_decoder(artifact, threads, device, capture)
        self._merges = "image_features" in inputs_of(self._embed)
        # Columns of marks (export.onnx.layouts). Read once: get_outputs builds a list each time.
        self._marks = _width(self._embed, artifact.path) - self._text.hidden
        self._image_ids = np.zeros(context, np.int64)
        self._token = np.zeros((1, 1), np.int64)
        self._row = np.zeros((1, 1, self._text.hidden + self._marks), np.float32)
        self._lookup = self._bind_lookup()
        self._open_heads = partial(OnnxRegionHeads, artifact, threads, device, kleidiai=kleidiai)

    def _opened_decoder(
        self, artifact: Artifact, threads: int, device: Device, capture: bool
    ) -> OnnxDecoder:
        """Loads the decoder graph; returns a DeviceDecoder for layout cuda, else a HostDecoder."""
        path = artifact.file("decoder")
        if artifact.manifest.layout != CUDA:
            open_with = partial(_host_graph, artifact, self._kleidiai)
            return HostDecoder(open_with, threads, self._text, self.context)
        captured = capture and device.kind == "cuda"
        graph = open_graph(path, threads, device, capture=captured)
        expect_cache(graph, self._text, path)
        with memory_errors("while the cache was made"):
            return DeviceDecoder(graph, self._text, self.context, device, captured)

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Returns the features of all images in order: [image tokens, hidden] (Backend)."""
        assert self._tower is not None
        return self._tower.encode(images)

    def extend(self, step: Extend) -> Logits:
        """Runs the decoder on a step's tokens; returns the last one's logits [vocab] (Backend)."""
        ids, features, past, positions = step
        images = image_ids(
            self._image_ids, ids, features, past, self._image_token_id, self._text.prefix
        )
        with running(self._artifact.path):
            embeds = self._embedded(ids, features)
            return self._decoder.extend(embeds, past, images, positions)

    def use_threads(self, threads: int) -> None:
        """Computes decoder steps with so many threads; the tower keeps its own (ThreadedBackend).

        Loading a tower again may take several times its size in memory. Raises UserError if a file
        of the artifact has changed since its export.
        """
        if isinstance(self._decoder, HostDecoder):
            verify_digests(self._artifact)
            self._decoder.use_threads(threads)

    def _embedded(self, ids: IntArray, features: FloatArray | None) -> FloatArray:
        """Returns the decoder's inputs [1, n, width]: embeddings of ids, features for image tokens.

        The result for a single id is valid until the next call.
        """
        if len(ids) == 1 and features is None:
            self._token[0] = ids
            self._embed.run_with_iobinding(self._lookup)
            return self._row
        if features is not None and self._marks:
            features = np.pad(features, ((0, 0), (0, self._marks)), constant_values=1)
        if self._merges:
            rows = self._no_rows() if features is None else features
            fed = {"input_ids": ids[None], "image_features": rows}
            merged: FloatArray = self._embed.run(None, fed)[0]
            return merged
        embeds: FloatArray = self._embed.run(None, {"input_ids": ids[None]})[0]
        place_features(embeds[0], ids, features, self._image_token_id)
        return embeds

    def close(self) -> None:
        """Frees the model's memory (Backend)."""
        del self._lookup, self._embed, self._decoder
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

    def _bind_lookup(self) -> ort.IOBinding:
        """Binds the buffers of a decode step, which looks up the embedding of one id."""
        binding = self._embed.io_binding()
        binding.bind_cpu_input("input_ids", self._token)
        if self._merges:
            binding.bind_cpu_input("image_features", self._no_rows())
        name = self._embed.get_outputs()[0].name
        binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(self._row))
        return binding

    def _no_rows(self) -> FloatArray:
        """Returns features of no image tokens: [0, width]."""
        return np.zeros((0, self._text.hidden + self._marks), np.float32)


def _host_graph(artifact: Artifact, kleidiai: bool, threads: int) -> ort.InferenceSession:
    """Loads the decoder graph of a CPU layout."""
    path = artifact.file("decoder")
    graph = open_graph(path, threads, steps=True, kleidiai=kleidiai)
    expect_cache(graph, artifact.manifest.vlm.text, path)
    return graph


def _width(embed: ort.InferenceSession, path: Path) -> int:
    """Returns the length of an embedding. Raises UserError if the graph does not state it."""
    width = embed.get_outputs()[0].shape[-1]
    if not isinstance(width, int):
        raise UserError(f"{path}: its embedding graph has rows of no fixed length; export it again")
    return width


def _check(artifact: Artifact, device: Device, context: int) -> None:
    """Raises UserError for a context or a device that the artifact does not support."""
    text, layout = artifact.manifest.vlm.text, artifact.manifest.layout
    most = min(text.context, STORED_POSITIONS)
    if context > most:
        raise UserError(
            f"{artifact.path}: a context of {context} was asked for, but the model has {most} "
            f"positions; ask for a shorter one"
        )
    if device != CPU and layout != CUDA:
        raise UserError(
            f"{artifact.path} has layout {layout}, whose attention is float32, but onnxruntime's "
            f"attention on a GPU only takes float16; export with --layout {CUDA}"
        )
