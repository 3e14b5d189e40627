"""The networks of a bundle as torch modules with the names and shapes of LiteRT-LM's runner."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from export.images import ImageRecipe
from export.litert.attention import SliceState, cache_name
from export.litert.layers import LitertBuffers
from export.litert.lengths import cached_positions, prefill_positions
from export.model import Model
from export.modeling.vision import TileVision
from export.modeling.vlm import Vlm
from export.torch.attention import StaticCache
from export.torch.modules import EmbeddingModule, NetworkWeights, TileModule

Kind = Literal["vision_encoder", "embedder", "prefill_decode"]
"""The runner's names of the .tflite models in a bundle."""


@dataclass(frozen=True, eq=False)
class Signature:
    """One entry of a .tflite model: a torch module and example inputs by name."""

    module: nn.Module
    inputs: Mapping[str, Tensor]


def networks(model: Model) -> Mapping[Kind, Mapping[str, Signature]]:
    """Returns the .tflite models of a bundle, each as its signatures by name."""
    vlm = model.vlm
    found: dict[Kind, Mapping[str, Signature]] = {}
    if isinstance(vlm.vision, TileVision):
        assert model.image is not None
        weights = LitertBuffers(model.weights, ("vision",))
        edge = vlm.vision.tower.image_size
        encoder = EncoderNetwork(vlm.vision, weights, model.image)
        inputs = {"images": torch.zeros(1, edge, edge, vlm.vision.tower.channels)}
        found["vision_encoder"] = {"vision": Signature(encoder, inputs)}
    token = {"token_ids": torch.zeros(1, 1, dtype=torch.int32)}
    embedder = EmbedderNetwork(vlm, LitertBuffers(model.weights, ("embedding",)))
    found["embedder"] = {"embedder": Signature(embedder, token)}
    found["prefill_decode"] = _decoder(model)
    return found


def _decoder(model: Model) -> Mapping[str, Signature]:
    vlm = model.vlm
    parts = ("decoder", "embedding") if vlm.text.tied else ("decoder",)
    weights = LitertBuffers(model.weights, parts)
    cache, length = StaticCache(vlm.text, cached_positions(vlm)), prefill_positions(vlm)
    prefill, decode = (DecoderNetwork(vlm, weights, cache, logits=n) for n in (False, True))
    return {
        f"prefill_{length}": Signature(prefill, _inputs(vlm, length)),
        "decode": Signature(decode, _inputs(vlm, 1)),
    }


def _inputs(vlm: Vlm, new: int) -> Mapping[str, Tensor]:
    length = cached_positions(vlm)
    caches = {
        cache_name(kind, layer): torch.zeros(state.shape(length))
        for layer, state in enumerate(vlm.text.states)
        for kind in "kv"
    }
    return {
        "embeddings": torch.zeros(1, new, vlm.text.hidden),
        "input_pos": torch.arange(new, dtype=torch.int32),
        "mask": torch.zeros(1, 1, new, length),
        **caches,
    }


class EncoderNetwork(nn.Module):
    """Image encoder and projector, with the normalization that the runner lacks.

    It maps one image [1, height, width, channels] of values from 0 to 1 to features [1, tokens,
    hidden].
    """

    def __init__(self, vision: TileVision, weights: NetworkWeights, image: ImageRecipe) -> None:
        super().__init__()
        self._tile = TileModule(vision, weights)
        mean, std = torch.tensor(image.mean), torch.tensor(image.std)
        self.register_buffer("scale", 255 * image.rescale / std)
        self.register_buffer("shift", -mean / std)

    def forward(self, images: Tensor) -> Mapping[str, Tensor]:
        normal = images * self.get_buffer("scale") + self.get_buffer("shift")
        return {"features": self._tile(normal.permute(0, 3, 1, 2))}


class EmbedderNetwork(nn.Module):
    """The token embedding: ids int32 [1, n] -> embeddings [1, n, hidden]."""

    def __init__(self, vlm: Vlm, weights: NetworkWeights) -> None:
        super().__init__()
        self._embedding = EmbeddingModule(vlm, weights)

    def forward(self, token_ids: Tensor) -> Mapping[str, Tensor]:
        # The runner has ids below 0 for the rows of images, which it replaces afterwards.
        ids = torch.maximum(token_ids, torch.tensor(0, dtype=torch.int32))
        return {"embeddings": self._embedding(ids)}


class DecoderNetwork(nn.Module):
    """The text decoder, whose key-value cache is in its inputs and outputs.

    `logits`: whether it also returns the last position's [1, 1, vocab]. `input_pos` int32 [new]
    says where the new positions are: in a row from the first one, and 0 where nothing is fed.
    """

    def __init__(
        self, vlm: Vlm, weights: NetworkWeights, cache: StaticCache, *, logits: bool
    ) -> None:
        super().__init__()
        self._text, self._logits = vlm.text, logits
        self.weights, self.cache = weights, cache

    def forward(
        self, embeddings: Tensor, input_pos: Tensor, mask: Tensor, **caches: Tensor
    ) -> Mapping[str, Tensor]:
        state = SliceState(self.cache, input_pos.long(), caches=dict(caches), seen=mask)
        logits, _ = self._text.forward(self.weights.ops(state), embeddings)
        return {**state.caches, "logits": logits} if self._logits else state.caches
