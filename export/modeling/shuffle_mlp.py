"""A projector of pixel shuffle, layer norm and feed-forward (InternVL report, Chen et al. 2023)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from export.modeling.ops import Activation, Ops
from export.modeling.tensors import Tensors, linear, norm
from export.modeling.vit import Vit

T = TypeVar("T")


@dataclass(frozen=True)
class ShuffleMlp:
    """Maps patches of the vision encoder to decoder embeddings, as InternVL does.

    It concatenates scale x scale neighbouring patches, applies a layer norm and two linear maps
    with an activation between.
    """

    scale: int
    norm_eps: float
    activation: Activation
    kind: Literal["shuffle_mlp"] = "shuffle_mlp"

    def tokens(self, tower: Vit) -> int:
        """Returns how many decoder positions (tokens) one tile of an image takes."""
        return tower.patches // self.scale**2

    def tensors(self, tower: Vit, hidden: int) -> Tensors:
        """Yields name and shape of every weight tensor; `hidden` is the decoder's width."""
        width = tower.hidden * self.scale**2
        yield from norm("mm.model.mlp.0", width, bias=True)
        yield from linear("mm.model.mlp.1", hidden, width)
        yield from linear("mm.model.mlp.3", hidden, hidden)

    def forward(self, ops: Ops[T], tower: Vit, x: T) -> T:
        """Maps N patches of each of T tiles [T, N, H] to embeddings [T, N / scale^2, hidden]."""
        x = ops.pixel_shuffle(x, tower.grid, self.scale)
        x = ops.norm(x, "mm.model.mlp.0", "layer", self.norm_eps)
        inner = ops.activation(ops.linear(x, "mm.model.mlp.1", bias=True), self.activation)
        return ops.linear(inner, "mm.model.mlp.3", bias=True)

    def problems(self, tower: Vit) -> Iterator[str]:
        """Yields a message for each invalid hyperparameter, with its name in config.json."""
        if tower.side % self.scale:
            yield (
                f"the {tower.side} patches along image_size {tower.image_size} are not a multiple "
                f"of 1 / downsample_ratio, {self.scale}"
            )
