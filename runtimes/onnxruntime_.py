"""ONNX Runtime on the CPU: a few graphs, one shared key-value buffer, bound once.

Past and present are the same OrtValue of the full context, so a step copies no cache
(GroupQueryAttention appends in place). NOT aware of prompts or clocks.
"""

from functools import cached_property, partial

import numpy as np
import onnxruntime as ort

from export.artifact import Artifact
from export.errors import UserError
from export.rotary import STORED_POSITIONS
from runtimes.base import FloatArray, IntArray, Session
from runtimes.onnxruntime_graph import inputs_of, open_graph
from runtimes.onnxruntime_region import RegionHeads
from runtimes.onnxruntime_vision import OnnxTower
from runtimes.places import Head
from runtimes.positions import of_text
from runtimes.prepare import Pixels, preparer_of
from runtimes.session import GreedySession, number_images, place_features, room

ONE_THREAD = frozenset({"embedding"})
DECODER_PARTS = ("embedding", "decoder")


def open_session(
    artifact: Artifact, *, threads: int, device: str = "cpu", context: int | None = None
) -> Session:
    """Load an ONNX artifact; `context`: positions to make room for (see session.room)."""
    manifest = artifact.manifest
    backend = OnnxBackend(artifact, threads, device, room(manifest.vlm, context))
    return GreedySession(backend, preparer_of(artifact), manifest.vlm.stop_token_ids)


class OnnxDecoder:
    """What runtimes.session.Backend does of text: embeddings, decoder and cache.

    Where the artifact has region heads it is runtimes.places.Places, too; they are loaded when they
    are first asked.
    """

    def __init__(self, artifact: Artifact, threads: int, device: str, context: int) -> None:
        manifest = artifact.manifest
        self._open_heads = partial(RegionHeads, artifact, threads, device)
        self._vlm, self._text = manifest.vlm, manifest.vlm.text
        self._image_token_id = manifest.vlm.image_token_id
        self._graphs = {
            part: open_graph(artifact.path / files[0], 1 if part in ONE_THREAD else threads, device)
            for part, files in manifest.components.items()
            if part in DECODER_PARTS
        }
        self._embed, self._decoder = (self._graphs[part] for part in ("embedding", "decoder"))
        self._takes = inputs_of(self._decoder)
        self._merges = "image_features" in inputs_of(self._embed)
        # Columns of marks (export.onnx.layouts), read once: a session lists outputs anew each time.
        self._marks = self._embed.get_outputs()[0].shape[-1] - self._text.hidden
        self.context = context
        if context > min(self._text.context, STORED_POSITIONS):
            raise UserError(
                f"{artifact.path}: a context of {context} was asked for, but the model has room "
                f"for {min(self._text.context, STORED_POSITIONS)} positions"
            )
        self._images = np.zeros(context, np.int64)
        self._mask = np.ones((1, context), np.int64)
        self._binding = self._decoder.io_binding()
        self._cache = self._bind_cache()
        if "num_logits_to_keep" in self._takes:
            self._binding.bind_cpu_input("num_logits_to_keep", np.array(1, np.int64))
        # Bound once, as the cache is: asking the binding for its outputs wraps every one of them.
        self._logits = np.zeros((1, 1, manifest.vlm.text.vocab), np.float32)
        self._bound = ort.OrtValue.ortvalue_from_numpy(self._logits)
        self._binding.bind_ortvalue_output("logits", self._bound)
        self.state = np.zeros(self._text.hidden, np.float32)
        if "region" in manifest.components:
            self._bound_state = ort.OrtValue.ortvalue_from_numpy(self.state[None, None])
            self._binding.bind_ortvalue_output("state", self._bound_state)

    def extend(
        self,
        ids: IntArray,
        features: FloatArray | None,
        past: int,
        positions: IntArray | None = None,
    ) -> FloatArray:
        """See runtimes.session.Backend."""
        binding = self._binding
        binding.bind_cpu_input("inputs_embeds", self._embedded(ids, features))
        binding.bind_cpu_input("attention_mask", self._mask[:, : past + len(ids)])
        numbers = number_images(
            self._images, ids, features, past, self._image_token_id, self._text.prefix
        )
        if "image_numbers" in self._takes:
            binding.bind_cpu_input("image_numbers", numbers[None])
        if self._text.rope_sections is not None:
            positions = of_text(past, len(ids)) if positions is None else positions
            binding.bind_cpu_input("position_ids", np.ascontiguousarray(positions[:, None]))
        self._decoder.run_with_iobinding(binding)
        logits: FloatArray = self._logits[0, 0].copy()
        return logits

    def _embedded(self, ids: IntArray, features: FloatArray | None) -> FloatArray:
        """Embeddings [1, n, width] of the ids with the images' rows in their places."""
        if features is not None and self._marks:
            features = np.pad(features, ((0, 0), (0, self._marks)), constant_values=1)
        if self._merges:
            none = np.zeros((0, self._text.hidden + self._marks), np.float32)
            fed = {"input_ids": ids[None], "image_features": none if features is None else features}
            merged: FloatArray = self._embed.run(None, fed)[0]
            return merged
        embeds: FloatArray = self._embed.run(None, {"input_ids": ids[None]})[0]
        place_features(embeds[0], ids, features, self._image_token_id)
        return embeds

    def close(self) -> None:
        """Free everything."""
        del self._binding, self._bound, self._cache, self._embed, self._decoder
        self._graphs.clear()
        self.__dict__.pop("_heads", None)

    @cached_property
    def _heads(self) -> RegionHeads:
        return self._open_heads()

    def embed_places(self, head: Head, numbers: FloatArray) -> FloatArray:
        """See runtimes.places.Places."""
        return self._heads.embed(head, numbers)

    def place_logits(self, head: Head) -> FloatArray:
        """See runtimes.places.Places."""
        return self._heads.logits(head, self.state)

    def _bind_cache(self) -> list[ort.OrtValue]:
        """One buffer a layer and kind, bound as past and as present."""
        shape = (1, self._text.kv_heads, self.context, self._text.head_dim)
        cache = []
        for i in range(self._text.layers):
            for kind in ("key", "value"):
                # Not cleared: pages that no position reaches never become memory.
                buffer = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "cpu")
                self._binding.bind_ortvalue_input(f"past_key_values.{i}.{kind}", buffer)
                self._binding.bind_ortvalue_output(f"present.{i}.{kind}", buffer)
                cache.append(buffer)
        return cache


class OnnxBackend(OnnxDecoder):
    """runtimes.session.Backend over ONNX Runtime sessions: the tower, too."""

    def __init__(self, artifact: Artifact, threads: int, device: str, context: int) -> None:
        self._tower = OnnxTower(artifact, threads, device)  # first: unpacking it takes most memory
        super().__init__(artifact, threads, device, context)

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """See runtimes.session.Backend."""
        return self._tower.encode(images)

    def close(self) -> None:
        """Free everything."""
        super().close()
        self._tower.close()
