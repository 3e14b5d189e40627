"""llama.cpp: a GGUF text model, and a vision tower through mtmd or ONNX Runtime.

Uses the bindings' C functions, not their `Llama` class, which samples and copies on its own.
NOT aware of prompts or clocks.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from export.artifact import Artifact
from export.errors import UserError
from runtimes.base import FloatArray, IntArray, Session
from runtimes.devices import CPU, Device, device_of
from runtimes.llama_cpp.files import checked_decoder, checked_mmproj
from runtimes.nvidia import memory_errors
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.loop import Extend, GreedySession, room
from runtimes.session.regions import Head
from runtimes.vision import Tower

if TYPE_CHECKING:
    from runtimes.onnxruntime.regions import RegionHeads

ONNX_VISION = "onnx-vision"


def open_session(
    artifact: Artifact, *, threads: int, device: str = "cpu", context: int | None = None
) -> Session:
    """Load a GGUF artifact; `context`: positions to make room for (see session.room).

    Raises UserError for files that are missing, damaged or of another model.
    """
    manifest, where = artifact.manifest, device_of(device)
    with memory_errors("while the model was loaded"):
        backend = LlamaBackend(artifact, threads, room(manifest.vlm, context), device=where)
    places = "region" in manifest.components
    stop = manifest.vlm.stop_token_ids
    return GreedySession(backend, preparer_of(artifact), stop, places=places)


class LlamaBackend:
    """BatchBackend over llama.cpp. `cache_bits`: 16 (llama.cpp's default) or 32.

    runtimes.session.regions.Places, too, where the artifact has the onnx target's region heads.
    """

    def __init__(
        self,
        artifact: Artifact,
        threads: int,
        context: int,
        *,
        cache_bits: int = 16,
        device: Device = CPU,
    ) -> None:
        from runtimes.llama_cpp.decoder import LlamaDecoder

        if device != CPU and artifact.manifest.layout == ONNX_VISION:
            raise UserError(
                f"{artifact.path}: the tower of layout {ONNX_VISION} is made for the CPU; export "
                f"it with --layout native to run all of it on a GPU"
            )

        self.context = context
        vlm = artifact.manifest.vlm
        if "region" not in artifact.manifest.components:
            vlm = replace(vlm, region=None)  # nothing reads the state, whose tap slows every step
        file = checked_decoder(artifact)
        # Graphs first: an int4 tower takes several times its size while it loads.
        self._tower = _onnx_tower(artifact, threads)
        self._decoder = LlamaDecoder(
            file, vlm, threads, context, cache_bits=cache_bits, device=device
        )
        try:
            self._tower = self._tower or _mtmd_tower(artifact, self._decoder.model, threads, device)
            self._heads = _heads(artifact, threads)
        except UserError:
            self._decoder.close()
            raise

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        assert self._tower is not None, "the preparer refuses images of models for text alone"
        return self._tower.encode(images)

    def extend(
        self,
        ids: IntArray,
        features: FloatArray | None,
        past: int,
        positions: IntArray | None = None,
    ) -> FloatArray:
        return self._decoder.extend(ids, features, past, positions)

    def encode_each(self, images: Sequence[tuple[Pixels, ...]]) -> list[FloatArray]:
        """See runtimes.session.loop.BatchBackend."""
        return [self.encode(own) for own in images]

    def extend_each(self, steps: dict[int, Extend], common: int) -> dict[int, FloatArray]:
        """See runtimes.session.loop.BatchBackend."""
        return self._decoder.extend_each(steps, common)

    @property
    def state(self) -> FloatArray:
        """See runtimes.session.regions.Places."""
        return self._decoder.state

    def embed_places(self, head: Head, numbers: FloatArray) -> FloatArray:
        """See runtimes.session.regions.Places."""
        assert self._heads is not None
        return self._heads.embed(head, numbers)

    def place_logits(self, head: Head) -> FloatArray:
        """See runtimes.session.regions.Places."""
        assert self._heads is not None
        return self._heads.logits(head, self.state)

    def close(self) -> None:
        if self._tower is not None:
            self._tower.close()
        self._decoder.close()


def _heads(artifact: Artifact, threads: int) -> "RegionHeads | None":
    if "region" not in artifact.manifest.components:
        return None
    from runtimes.onnxruntime.regions import RegionHeads

    return RegionHeads(artifact, threads)


def _mtmd_tower(artifact: Artifact, text_model: Any, threads: int, device: Device) -> Tower | None:
    manifest = artifact.manifest
    if manifest.image is None:
        return None
    from runtimes.llama_cpp.tower import MtmdTower

    mmproj = checked_mmproj(artifact)
    return MtmdTower(mmproj, text_model, manifest.vlm, manifest.image, threads, device=device)


def _onnx_tower(artifact: Artifact, threads: int) -> Tower | None:
    if artifact.manifest.layout != ONNX_VISION:
        return None
    from runtimes.onnxruntime.tower import OnnxTower

    return OnnxTower(artifact, threads)
