"""Squares of patches through a feed-forward (Qwen2-VL report, 2024)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from export.modeling.ops import Ops
from export.modeling.qwen_vit import QwenVit
from export.modeling.tensors import Tensors, linear

T = TypeVar("T")


@dataclass(frozen=True)
class PatchMerger:
    """The patches of a square side by side, two linear maps with biases, a GELU between them."""

    kind: Literal["patch_merger"] = "patch_merger"

    def tokens(self, tower: QwenVit) -> int:
        """Decoder positions of the example image."""
        return tower.patches // tower.spatial_merge_size**2

    def tensors(self, tower: QwenVit, hidden: int) -> Tensors:
        """Names and shapes; `hidden` is the decoder's width."""
        merged = tower.hidden * tower.spatial_merge_size**2
        yield from linear("mm.0", merged, merged)
        yield from linear("mm.2", hidden, merged)

    def forward(self, ops: Ops[T], tower: QwenVit, x: T) -> T:
        """Patches [1, N, H] -> [1, N / spatial_merge_size^2, hidden]."""
        inner = ops.linear(ops.merge_patches(x, tower.order), "mm.0", bias=True)
        return ops.linear(ops.activation(inner, "gelu"), "mm.2", bias=True)

    def problems(self, tower: QwenVit) -> Iterator[str]:
        """What is wrong with the numbers, in the words of config.json."""
        if tower.side % tower.spatial_merge_size:
            yield (
                f"the {tower.side} patches along the example image are not a multiple of "
                f"spatial_merge_size {tower.spatial_merge_size}"
            )
