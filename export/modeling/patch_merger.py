"""A projector that maps squares of patches to decoder embeddings (Qwen2-VL report, 2024)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from export.modeling.ops import Ops
from export.modeling.qwen_vit import QwenVit
from export.modeling.tensors import Tensors, linear

T = TypeVar("T")


@dataclass(frozen=True)
class PatchMerger:
    """Maps patches of the vision encoder to decoder embeddings, as Qwen2.5-VL does.

    It concatenates the patches of each square and applies two linear maps with a GELU between.
    """

    kind: Literal["patch_merger"] = "patch_merger"

    def tokens(self, tower: QwenVit) -> int:
        """Returns how many decoder positions the example image takes (of tower.image_size)."""
        return tower.patches // tower.spatial_merge_size**2

    def tensors(self, tower: QwenVit, hidden: int) -> Tensors:
        """Yields name and shape of every weight tensor; `hidden` is the decoder's width."""
        merged = tower.hidden * tower.spatial_merge_size**2
        yield from linear("mm.0", merged, merged)
        yield from linear("mm.2", hidden, merged)

    def forward(self, ops: Ops[T], tower: QwenVit, x: T) -> T:
        """Maps an image's patches [1, N, H] to embeddings [1, N / spatial_merge_size^2, hidden]."""
        inner = ops.linear(ops.merge_patches(x, tower.order), "mm.0", bias=True)
        return ops.linear(ops.activation(inner, "gelu"), "mm.2", bias=True)

    def problems(self, tower: QwenVit) -> Iterator[str]:
        """Yields a message for each invalid hyperparameter, with its name in config.json."""
        if tower.side % tower.spatial_merge_size:
            yield (
                f"the {tower.side} patches along the example image are not a multiple of "
                f"spatial_merge_size {tower.spatial_merge_size}"
            )
