"""The llama_cpp runtime: a GGUF text model, and a vision tower in mtmd or ONNX Runtime.

Uses the C functions of the bindings: their `Llama` class samples tokens and copies logits itself.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from export.arrays import FloatArray
from export.artifact import Artifact
from export.errors import UserError
from runtimes.base import Session
from runtimes.devices import CPU, Device, device_of
from runtimes.llama_cpp.files import checked_decoder, checked_mmproj
from runtimes.nvidia import memory_errors
from runtimes.prepare.request import Pixels, preparer_of
from runtimes.session.backend import Extend, VisionTower, context_length
from runtimes.session.loop import GreedySession
from runtimes.session.regions import RegionHead

if TYPE_CHECKING:
    from runtimes.onnxruntime.regions import OnnxRegionHeads

ONNX_VISION = "onnx-vision"


def open_session(
    artifact: Artifact, *, threads: int, device: str = "cpu", context: int | None = None
) -> Session:
    """Loads a GGUF artifact into llama.cpp and returns the session.

    `device`: "cpu", "cuda" or "cuda:N". `context`: positions of the key-value cache (default: the
    model's limit, at most CONTEXT). Raises UserError for files that are missing, damaged or of
    another model.
    """
    manifest, where = artifact.manifest, device_of(device)
    with memory_errors("while the model was loaded"):
        positions = context_length(manifest.vlm, context)
        backend = LlamaBackend(artifact, threads, positions, device=where)
    has_regions = "region" in manifest.components
    stop = manifest.vlm.stop_token_ids
    return GreedySession(backend, preparer_of(artifact), stop, has_regions=has_regions)


class LlamaBackend:
    """Runs a GGUF artifact in llama.cpp for a GreedySession (BatchBackend).

    It is a RegionBackend, too, if the artifact has region heads, which run in ONNX Runtime.
    `cache_bits`: bits of each number in the key-value cache, 16 or 32 (LlamaDecoder).
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
                f"{artifact.path}: the tower of layout {ONNX_VISION} only runs on the CPU; export "
                f"with --layout native to run all of it on a GPU"
            )

        self.context = context
        vlm = artifact.manifest.vlm
        if "region" not in artifact.manifest.components:
            vlm = replace(vlm, region=None)  # no StateTap, which slows down every step
        file = checked_decoder(artifact)
        # The tower first: while an int4 tower is loaded, it takes several times its size.
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
        """Returns the features of all images in order: [image tokens, hidden] (Backend)."""
        assert self._tower is not None, "the preparer refuses images for text-only models"
        return self._tower.encode(images)

    def extend(self, step: Extend) -> FloatArray:
        """Runs the decoder on a step's tokens; returns the last one's logits [vocab] (Backend)."""
        return self._decoder.extend(step)

    def use_threads(self, threads: int) -> None:
        """Computes the decoder with so many threads, the tower as before (ThreadedBackend)."""
        self._decoder.use_threads(threads)

    def encode_each(self, images: Sequence[tuple[Pixels, ...]]) -> list[FloatArray]:
        """Returns the features of each request's images [image tokens, hidden] (BatchBackend)."""
        return [self.encode(of_request) for of_request in images]

    def extend_each(self, steps: dict[int, Extend], common: int) -> dict[int, FloatArray]:
        """Runs the decoder on a step per sequence; returns the last logits of each
        (BatchBackend)."""
        return self._decoder.extend_each(steps, common)

    def region_embeddings(self, head: RegionHead, values: FloatArray) -> FloatArray:
        """Returns embeddings [n, hidden] of coordinates or sizes (RegionBackend)."""
        assert self._heads is not None
        return self._heads.embeddings(head, values)

    def region_logits(self, head: RegionHead) -> FloatArray:
        """Returns logits over the coordinates or sizes that may come next (RegionBackend)."""
        assert self._heads is not None
        return self._heads.logits(head, self._decoder.state)

    def close(self) -> None:
        """Frees the vision tower and the text model (Backend)."""
        if self._tower is not None:
            self._tower.close()
        self._decoder.close()


def _heads(artifact: Artifact, threads: int) -> "OnnxRegionHeads | None":
    """Loads the artifact's region heads; None if it has none."""
    if "region" not in artifact.manifest.components:
        return None
    from runtimes.onnxruntime.regions import OnnxRegionHeads

    return OnnxRegionHeads(artifact, threads)


def _mtmd_tower(
    artifact: Artifact, text_model: Any, threads: int, device: Device
) -> VisionTower | None:
    """Loads the artifact's vision tower into mtmd; None for a text-only model."""
    manifest = artifact.manifest
    if manifest.image is None:
        return None
    from runtimes.llama_cpp.tower import MtmdTower

    mmproj = checked_mmproj(artifact)
    return MtmdTower(mmproj, text_model, manifest.vlm, manifest.image, threads, device=device)


def _onnx_tower(artifact: Artifact, threads: int) -> VisionTower | None:
    """Loads the vision tower into ONNX Runtime; None if the layout is not onnx-vision."""
    if artifact.manifest.layout != ONNX_VISION:
        return None
    from runtimes.onnxruntime.tower import OnnxTower

    return OnnxTower(artifact, threads)
