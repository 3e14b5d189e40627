"""The networks as torch modules that torch.export can trace: weights and caches are buffers.

They are for formats that need a trace (ExecuTorch). They take one sequence at a time; shapes and
control flow do not depend on values of tensors.
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


class EmbeddingModule(nn.Module):
    """The token embedding as a torch module: token ids int64 [1, S] -> [1, S, hidden]."""

    def __init__(self, vlm: Vlm, weights: Weights) -> None:
        super().__init__()
        self._text = vlm.text
        self.weights = TensorBuffers(weights, ("embedding",))

    def forward(self, ids: Tensor) -> Tensor:
        return self._text.embed(Run(self.weights.parameter), ids)


class TileModule(nn.Module):
    """The vision part as a torch module: T tiles [T, C, h, w] -> features [T, tokens, hidden].

    For a model that joins the crops of an image, it returns the patches before they are joined.
    """

    def __init__(self, vision: TileVision, weights: Weights) -> None:
        super().__init__()
        self._vision = vision
        self.weights = TensorBuffers(weights, ("vision",))

    def forward(self, pixels: Tensor) -> Tensor:
        return self._vision.forward(Run(self.weights.parameter), pixels)


class DecoderModule(nn.Module):
    """The text decoder as a torch module, with a cache of `length` positions in its buffers.

    `forward` writes the new positions to the cache and returns the last one's logits. A prompt may
    be given in parts; a part must hold whole images if their positions attend to each other.
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
        """Maps embeddings [1, S, hidden] of new positions to the last one's logits [1, 1, vocab].

        `indices` int64 [S] says where in the cache the new positions go. `positions` int64 [3, S]
        are their time, row and column, for decoders with rope_sections. `image_ids` int64 [length]
        is the number of the image at each position, from 1, and 0 for text, for bidirectional
        attention.
        """
        state = StaticState(self.cache, indices, positions, image_ids)
        return self._text.forward(Run(self.weights.parameter, state=state), embeds)[0]


def _buffer_name(canonical: str) -> str:
    return canonical.replace(".", "/")
