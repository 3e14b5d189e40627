"""The networks as torch modules that torch.export can trace: weights and caches are buffers.

They are for formats that need a trace (ExecuTorch). They take one sequence at a time; shapes and
control flow do not depend on values of tensors.
"""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from export.modeling.region_heads import Head, RegionHeads
from export.modeling.vision import ImageVision, TileVision
from export.modeling.vlm import Vlm, component
from export.torch.attention import DecoderState, StaticCache
from export.torch.run import Run
from export.weights import Weights


class NetworkWeights(Protocol):
    """Holds the weights of a network in a torch module and makes the interpreter that uses them."""

    def ops(
        self,
        state: DecoderState | None = None,
        patches: tuple[Tensor, Tensor] | None = None,
    ) -> Run:
        """Returns the interpreter for one pass.

        `state` is a decoder's. `patches` are the row and column [N] of each patch of an image, for
        encoders of any size.
        """


class TensorBuffers(nn.Module):
    """Holds the weights of some components of a model as buffers of a torch module."""

    def __init__(self, weights: Weights, components: Iterable[str]) -> None:
        super().__init__()
        chosen = frozenset(components)
        for name in weights.shapes():
            if component(name) in chosen:
                values = torch.from_numpy(weights.read(name))
                self.register_buffer(_buffer_name(name), values)

    def parameter(self, name: str) -> Tensor:
        """Returns the weight tensor with this (GGUF) name."""
        return self.get_buffer(_buffer_name(name))

    def ops(
        self,
        state: DecoderState | None = None,
        patches: tuple[Tensor, Tensor] | None = None,
    ) -> Run:
        """Returns the interpreter for one pass (NetworkWeights)."""
        assert patches is None, "the reference takes the size of an image as numbers"
        return Run(self.parameter, state=state)


class EmbeddingModule(nn.Module):
    """The token embedding as a torch module: token ids int64 [1, S] -> [1, S, hidden]."""

    def __init__(self, vlm: Vlm, weights: NetworkWeights) -> None:
        super().__init__()
        self._text = vlm.text
        self.weights = weights

    def forward(self, ids: Tensor) -> Tensor:
        return self._text.embed(self.weights.ops(), ids)


class TileModule(nn.Module):
    """The vision part as a torch module: T tiles [T, C, h, w] -> features [T, tokens, hidden].

    For a model that joins the crops of an image, it returns the patches before they are joined.
    """

    def __init__(self, vision: TileVision, weights: NetworkWeights) -> None:
        super().__init__()
        self._vision = vision
        self.weights = weights

    def forward(self, pixels: Tensor) -> Tensor:
        return self._vision.forward(self.weights.ops(), pixels)


class JoinModule(nn.Module):
    """The projector that joins the crops of an image, as a torch module.

    It maps stitched patches [1, N, 2 H] to features [1, N, hidden] (CropMlp.join).
    """

    def __init__(self, vision: TileVision, weights: NetworkWeights) -> None:
        super().__init__()
        assert vision.crops is not None
        self._crops = vision.crops
        self.weights = weights

    def forward(self, patches: Tensor) -> Tensor:
        return self._crops.join(self.weights.ops(), patches)


class ImageModule(nn.Module):
    """The vision part for one image of any size: patches [N, values] -> features [1, n, hidden].

    `rows` and `columns` int64 [N] say where in the image each patch is.
    """

    def __init__(self, vision: ImageVision, weights: NetworkWeights) -> None:
        super().__init__()
        self._vision = vision
        self.weights = weights

    def forward(self, patches: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return self._vision.forward(self.weights.ops(patches=(rows, columns)), patches)


class NumberModule(nn.Module):
    """A region head's encoder: coordinates [n, 1], or sizes [n, 2] -> embeddings [n, hidden]."""

    def __init__(self, region: RegionHeads, head: Head, weights: NetworkWeights) -> None:
        super().__init__()
        self._region, self._head = region, head
        self.weights = weights

    def forward(self, numbers: Tensor) -> Tensor:
        return self._region.embed(self.weights.ops(), self._head, numbers)


class BinsModule(nn.Module):
    """A region head's decoder: states of the text decoder [n, hidden] -> logits over its bins."""

    def __init__(self, region: RegionHeads, head: Head, weights: NetworkWeights) -> None:
        super().__init__()
        self._region, self._head = region, head
        self.weights = weights

    def forward(self, state: Tensor) -> Tensor:
        return self._region.logits(self.weights.ops(), self._head, state)


class DecoderModule(nn.Module):
    """The text decoder as a torch module, with a key-value cache in its buffers.

    `forward` writes the new positions to the cache and returns the last one's logits. A prompt may
    be given in parts; a part must hold whole images if their positions attend to each other.
    """

    def __init__(self, vlm: Vlm, weights: NetworkWeights, cache: StaticCache) -> None:
        super().__init__()
        self._text = vlm.text
        self._has_regions = vlm.region is not None
        self.weights = weights
        self.cache = cache

    def forward(
        self,
        embeds: Tensor,
        indices: Tensor,
        positions: Tensor | None = None,
        image_ids: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Maps embeddings [1, S, hidden] of new positions to the last one's logits [1, 1, vocab].

        For a model with region heads, also to the last state before the output norm
        [1, 1, hidden]. `indices` int64 [S] says where in the cache the new positions go.
        `positions` int64 [3, S] are their time, row and column, for decoders with rope_sections.
        `image_ids` int64 [length] is the number of the image at each position, from 1, and 0 for
        text, for bidirectional attention.
        """
        state = self.cache.state(indices, positions, image_ids)
        logits, residual = self._text.forward(self.weights.ops(state), embeds)
        return (logits, residual[:, -1:]) if self._has_regions else logits


def _buffer_name(canonical: str) -> str:
    return canonical.replace(".", "/")
