"""ONNX Runtime: the embedding's table in the host's memory, tower and decoder on the device.

NOT aware of prompts or clocks, nor of how a decoder's graph is fed (runtimes/onnxruntime/decoder.py
on the CPU, runtimes/onnxruntime/device.py on a GPU).
"""

from functools import cached_property, partial

import numpy as np
import onnxruntime as ort

from export.artifact import Artifact
from export.errors import UserError
from export.modeling.rotary import STORED_POSITIONS
from runtimes.base import FloatArray, IntArray, Logits, Session
from runtimes.devices import CPU, Device, device_of
from runtimes.nvidia import memory_errors
from runtimes.onnxruntime.decoder import HostDecoder, OnnxDecoder
from runtimes.onnxruntime.device import DeviceDecoder
from runtimes.onnxruntime.graph import inputs_of, open_graph
from runtimes.onnxruntime.regions import RegionHeads
from runtimes.onnxruntime.tower import OnnxTower
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.loop import GreedySession, number_images, place_features, room
from runtimes.session.positions import of_text
from runtimes.session.regions import Head

CUDA = "cuda"
"""The layout whose graphs a GPU's kernels run."""


def open_session(
    artifact: Artifact,
    *,
    threads: int,
    device: str = "cpu",
    context: int | None = None,
    capture: bool = True,
) -> Session:
    """Load an ONNX artifact; `context`: positions to make room for (see session.room).

    `capture`: on a GPU, steps are captured as CUDA graphs and replayed.
    """
    manifest, where = artifact.manifest, device_of(device)
    backend = OnnxBackend(
        artifact, threads, room(manifest.vlm, context), device=where, capture=capture
    )
    return GreedySession(backend, preparer_of(artifact), manifest.vlm.stop_token_ids)


class OnnxBackend:
    """Backend over ONNX Runtime sessions; Places, too, where the
    artifact has region heads."""

    def __init__(
        self,
        artifact: Artifact,
        threads: int,
        context: int,
        *,
        device: Device = CPU,
        capture: bool = True,
        sees: bool = True,
    ) -> None:
        """Without `sees` the tower is not loaded, and `encode` cannot be called."""
        manifest = artifact.manifest
        self._vlm, self._text = manifest.vlm, manifest.vlm.text
        self._image_token_id = manifest.vlm.image_token_id
        _check(artifact, device, context)
        self.context = context
        self._tower = OnnxTower(artifact, threads, device) if sees else None
        # One row is read at a time: on a GPU the table would take memory and save nothing.
        self._embed = open_graph(artifact.path / manifest.components["embedding"][0], 1)
        self._decoder = self._opened_decoder(artifact, threads, device, capture)
        self._merges = "image_features" in inputs_of(self._embed)
        # Columns of marks (export.onnx.layouts), read once: a session lists outputs anew each time.
        self._marks = self._embed.get_outputs()[0].shape[-1] - self._text.hidden
        self._images = np.zeros(context, np.int64)
        self._token = np.zeros((1, 1), np.int64)
        self._row = np.zeros((1, 1, self._text.hidden + self._marks), np.float32)
        self._look_up = self._bind_look_up()
        self._open_heads = partial(RegionHeads, artifact, threads, device)

    def _opened_decoder(
        self, artifact: Artifact, threads: int, device: Device, capture: bool
    ) -> OnnxDecoder:
        path = artifact.path / artifact.manifest.components["decoder"][0]
        if artifact.manifest.layout != CUDA:
            return HostDecoder(open_graph(path, threads, steps=True), self._text, self.context)
        captured = capture and device.kind == "cuda"
        graph = open_graph(path, threads, device, captured)
        with memory_errors("while the cache was made"):
            return DeviceDecoder(graph, self._text, self.context, device, captured)

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """See runtimes.session.loop.Backend."""
        assert self._tower is not None
        return self._tower.encode(images)

    def extend(
        self,
        ids: IntArray,
        features: FloatArray | None,
        past: int,
        positions: IntArray | None = None,
    ) -> Logits:
        embeds = self._embedded(ids, features)
        numbers = number_images(
            self._images, ids, features, past, self._image_token_id, self._text.prefix
        )
        positions = of_text(past, len(ids)) if positions is None else positions
        return self._decoder.extend(embeds, past, numbers, positions)

    def _embedded(self, ids: IntArray, features: FloatArray | None) -> FloatArray:
        """Embeddings [1, n, width] of the ids with the images' rows in their places.

        Those of a single id are overwritten by the next one's.
        """
        if len(ids) == 1 and features is None:
            self._token[0] = ids
            self._embed.run_with_iobinding(self._look_up)
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
        """Free everything."""
        del self._look_up, self._embed, self._decoder
        self.__dict__.pop("_heads", None)
        if self._tower is not None:
            self._tower.close()

    @cached_property
    def _heads(self) -> RegionHeads:
        """Loaded when a place is first asked for."""
        return self._open_heads()

    @property
    def state(self) -> FloatArray:
        """See runtimes.session.regions.Places."""
        return self._decoder.state

    def embed_places(self, head: Head, numbers: FloatArray) -> FloatArray:
        """See runtimes.session.regions.Places."""
        return self._heads.embed(head, numbers)

    def place_logits(self, head: Head) -> FloatArray:
        """See runtimes.session.regions.Places."""
        return self._heads.logits(head, self._decoder.state)

    def _bind_look_up(self) -> ort.IOBinding:
        """One id's row of the embedding, as every step of an answer needs it."""
        binding = self._embed.io_binding()
        binding.bind_cpu_input("input_ids", self._token)
        if self._merges:
            binding.bind_cpu_input("image_features", self._no_rows())
        name = self._embed.get_outputs()[0].name
        binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(self._row))
        return binding

    def _no_rows(self) -> FloatArray:
        return np.zeros((0, self._text.hidden + self._marks), np.float32)


def _check(artifact: Artifact, device: Device, context: int) -> None:
    """Raises UserError for what no session could do."""
    text, layout = artifact.manifest.vlm.text, artifact.manifest.layout
    most = min(text.context, STORED_POSITIONS)
    if context > most:
        raise UserError(
            f"{artifact.path}: a context of {context} was asked for, but the model has room for "
            f"{most} positions"
        )
    if device != CPU and layout != CUDA:
        raise UserError(
            f"{artifact.path} has layout {layout}, whose attention is float32, and onnxruntime's "
            f"attention on a GPU takes float16 alone; export with --layout {CUDA}"
        )
