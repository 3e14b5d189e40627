"""Runs the graphs of an ONNX artifact for a session, whatever library computes them."""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from export.arrays import FloatArray
from export.artifact import Artifact
from export.errors import UserError
from export.modeling.rotary import STORED_POSITIONS
from export.onnx.memory import prompt_step
from runtimes.base import Logits
from runtimes.graphs.decoder import GraphDecoder
from runtimes.graphs.embedding import Embedding
from runtimes.graphs.regions import GraphRegionHeads
from runtimes.prepare.request import Pixels
from runtimes.session.backend import Extend, VisionTower
from runtimes.session.images import image_ids
from runtimes.session.regions import RegionHead


class GraphBackend:
    """Runs an ONNX artifact's graphs for a GreedySession (Backend).

    It is a RegionBackend, too, if the artifact has region heads.
    """

    def __init__(
        self,
        artifact: Artifact,
        context: int,
        *,
        tower: VisionTower | None,
        embedding: Embedding,
        decoder: GraphDecoder,
        open_heads: Callable[[], GraphRegionHeads],
        most: int | None = None,
    ) -> None:
        """`tower` None: images cannot be encoded. `open_heads` loads the region heads. `most`: how
        many positions of a prompt run at once (default: prompt_step)."""
        vlm = artifact.manifest.vlm
        self._most = most or prompt_step(vlm)
        self.context = context
        self._vlm = vlm
        self._tower, self._embedding, self._decoder = tower, embedding, decoder
        self._open_heads = open_heads
        self._image_ids = np.zeros(context, np.int64)

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        """Returns the features of all images in order: [image tokens, hidden] (Backend)."""
        assert self._tower is not None
        return self._tower.encode(images)

    def extend(self, step: Extend) -> Logits:
        """Runs the decoder on a step's tokens; returns the last one's logits [vocab] (Backend).

        A long prompt runs in parts, which bounds the memory of activations.
        """
        *_, last = map(self._extended, step.parts_for(self._vlm, self._most))
        return last

    def _extended(self, step: Extend) -> Logits:
        ids, features, past, positions = step
        token, prefix = self._vlm.image_token_id, self._vlm.text.prefix
        images = image_ids(self._image_ids, ids, features, past, token, prefix)
        embeds = self._embedding.rows(ids, features)
        return self._decoder.extend(embeds, past, images, positions)

    def close(self) -> None:
        """Frees the model's memory (Backend)."""
        del self._embedding, self._decoder
        self.__dict__.pop("_heads", None)
        if self._tower is not None:
            self._tower.close()

    @cached_property
    def _heads(self) -> GraphRegionHeads:
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


def expect_context(artifact: Artifact, context: int) -> None:
    """Raises UserError for a context of more positions than the model has."""
    most = min(artifact.manifest.vlm.text.context, STORED_POSITIONS)
    if context > most:
        raise UserError(
            f"{artifact.path}: a context of {context} was asked for, but the model has {most} "
            f"positions; ask for a shorter one"
        )
