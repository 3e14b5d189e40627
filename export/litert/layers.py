"""The interpreter whose operations become those that LiteRT computes fast, or can round."""

import torch
from torch import Tensor
from torch.nn import functional

from export.modeling.ops import Heads
from export.torch.attention import DecoderState
from export.torch.modules import TensorBuffers
from export.torch.run import Run


class LitertBuffers(TensorBuffers):
    """Holds the weights of some components of a model as buffers of a torch module."""

    def ops(
        self,
        state: DecoderState | None = None,
        patches: tuple[Tensor, Tensor] | None = None,
    ) -> Run:
        """Returns the interpreter for one pass (NetworkWeights)."""
        assert patches is None, "the runner has only tiles of one size"
        return LitertRun(self.parameter, state=state)


class LitertRun(Run):
    """Carries out operations (Ops) on torch tensors, written as LiteRT's converter takes them."""

    def embed(self, ids: Tensor, name: str, scale: float = 1.0) -> Tensor:
        # Indexing becomes GATHER, which LiteRT's quantizer leaves in float32.
        rows = functional.embedding(ids, self._parameter(f"{name}.weight"))
        return rows if scale == 1.0 else rows * scale

    def _attended(self, query: Tensor, key: Tensor, value: Tensor, heads: Heads) -> Tensor:
        # The queries that share a key follow each other, so that no key is copied for them.
        shared, new = heads.heads // heads.kv_heads, query.shape[2]
        mask = self._state.mask(heads, new)
        assert mask is not None
        grouped = query.reshape(1, heads.kv_heads, shared * new, query.shape[3])
        scores = torch.matmul(grouped * (heads.scale or heads.head_dim**-0.5), key.transpose(2, 3))
        weights = functional.softmax(scores + mask.repeat(1, 1, shared, 1), -1)
        return torch.matmul(weights, value).reshape(query.shape)
