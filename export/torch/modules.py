"""The reference as torch modules that torch.export takes: weights and caches are buffers.

For targets that trace (ExecuTorch). One sequence at a time; nothing depends on values of tensors.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from export.modeling.vision import TileVision
from export.modeling.vlm import Vlm, component
from export.torch.attention import StaticCache, StaticState
from export.torch.run import Run
from export.weights import Weights


class TensorBuffers(nn.Module):
    """Tensors of a model as buffers, found by canonical name."""

    def __init__(self, weights: Weights, components: Iterable[str]) -> None:
        super().__init__()
        chosen = frozenset(components)
        for name in weights.shapes():
            if component(name) in chosen:
                values = torch.from_numpy(weights.read(name))
                self.register_buffer(_buffer_name(name), values)

    def parameter(self, name: str) -> Tensor:
        """The tensor of a canonical name."""
        return self.get_buffer(_buffer_name(name))


class EmbeddingModule(nn.Module):
    """Token ids int64 [1, S] -> embeddings [1, S, hidden]."""

    def __init__(self, vlm: Vlm, weights: Weights) -> None:
        super().__init__()
        self._text = vlm.text
        self.weights = TensorBuffers(weights, ("embedding",))

    def forward(self, ids: Tensor) -> Tensor:
        return self._text.embed(Run(self.weights.parameter), ids)


class TileModule(nn.Module):
    """Tiles [T, C, h, w] -> features [T, tokens, hidden], or patches where crops are joined."""

    def __init__(self, vision: TileVision, weights: Weights) -> None:
        super().__init__()
        self._vision = vision
        self.weights = TensorBuffers(weights, ("vision",))

    def forward(self, pixels: Tensor) -> Tensor:
        return self._vision.forward(Run(self.weights.parameter), pixels)


class DecoderModule(nn.Module):
    """A decoder with a cache of `length` positions in its buffers.

    `forward` writes the new positions at `indices` and returns the last one's logits. A prompt may
    come in parts, but a part must hold whole images where their positions see each other.
    """

    def __init__(self, vlm: Vlm, weights: Weights, length: int) -> None:
        super().__init__()
        self._text = vlm.text
        self.weights = TensorBuffers(
            weights, ("decoder", *(("embedding",) if vlm.text.tied else ()))
        )
        self.cache = StaticCache(vlm.text, length)

    def forward(
        self,
        embeds: Tensor,
        indices: Tensor,
        positions: Tensor | None = None,
        image_ids: Tensor | None = None,
    ) -> Tensor:
        """Embeddings [1, S, hidden] -> logits [1, 1, vocab].

        `indices` int64 [S] are the new positions' places in the cache. `positions` int64 [3, S] are
        their time, row and column, for decoders with rope_sections. `image_ids` int64 [length]
        numbers the positions of images from 1, text is 0, for bidirectional attention.
        """
        state = StaticState(self.cache, indices, positions, image_ids)
        return self._text.forward(Run(self.weights.parameter, state=state), embeds)[0]


def _buffer_name(canonical: str) -> str:
    return canonical.replace(".", "/")
