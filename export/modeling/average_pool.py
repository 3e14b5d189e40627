"""A projector of average pooling, an RMS norm and one linear map (Gemma 3 report, 2025).

A projector maps the output of the vision encoder to embeddings of the text decoder.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from export.modeling.ops import Ops
from export.modeling.tensors import Tensors, linear, norm
from export.modeling.vit import Vit

T = TypeVar("T")


@dataclass(frozen=True)
class AveragePool:
    """Maps patches of the vision encoder to decoder embeddings, as Gemma 3 does.

    It averages scale x scale neighbouring patches, applies an RMS norm and a linear map.
    """

    scale: int
    norm_eps: float
    kind: Literal["average_pool"] = "average_pool"

    def tokens(self, tower: Vit) -> int:
        """Returns how many decoder positions (tokens) one tile of an image takes."""
        return tower.patches // self.scale**2

    def tensors(self, tower: Vit, hidden: int) -> Tensors:
        """Yields name and shape of every weight tensor; `hidden` is the decoder's width."""
        yield from norm("mm.soft_emb_norm", tower.hidden, bias=False)
        yield from linear("mm.input_projection", hidden, tower.hidden, bias=False)

    def forward(self, ops: Ops[T], tower: Vit, x: T) -> T:
        """Maps N patches of each of T tiles [T, N, H] to embeddings [T, N / scale^2, hidden]."""
        pooled = ops.average_pool(x, tower.grid, self.scale)
        normed = ops.norm(pooled, "mm.soft_emb_norm", "rms", self.norm_eps)
        return ops.linear(normed, "mm.input_projection")

    def problems(self, tower: Vit) -> Iterator[str]:
        """Yields a message for each invalid hyperparameter, with its name in config.json."""
        if tower.side % self.scale:
            yield (
                f"the {tower.side} patches along image_size {tower.image_size} cannot be averaged "
                f"by {self.scale} x {self.scale}"
            )
        if not 0 < self.norm_eps < 1:
            yield f"layer_norm_eps {self.norm_eps} is not between 0 and 1"
