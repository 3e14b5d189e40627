"""How a model sees: a tower with the projector behind it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from export.modeling.average_pool import AveragePool
from export.modeling.crop_mlp import CropMlp
from export.modeling.limits import size_problems
from export.modeling.ops import Ops
from export.modeling.patch_merger import PatchMerger
from export.modeling.pixel_shuffle import PixelShuffle
from export.modeling.qwen_vit import QwenVit
from export.modeling.shuffle_mlp import ShuffleMlp
from export.modeling.tensors import Tensors
from export.modeling.vit import Vit

T = TypeVar("T")
TileProjector = PixelShuffle | AveragePool | CropMlp | ShuffleMlp


@dataclass(frozen=True)
class TileVision:
    """Images as square tiles of one size. The id stands for an image's positions in a prompt."""

    tower: Vit
    projector: TileProjector
    image_token_id: int
    kind: Literal["tiles"] = "tiles"

    @property
    def crops(self) -> CropMlp | None:
        """The projector, where it joins the crops of an image."""
        return self.projector if isinstance(self.projector, CropMlp) else None

    @property
    def tokens_per_tile(self) -> int:
        """Decoder positions of one tile; joined crops share those of their image."""
        return self.projector.tokens(self.tower)

    def image_positions(self, tiles: int) -> int:
        """Decoder positions of one image of so many tiles."""
        return self.tokens_per_tile * (min(tiles, 1) if self.crops else tiles)

    def tensors(self, hidden: int) -> Tensors:
        """Names and shapes; `hidden` is the decoder's width."""
        yield from self.tower.tensors()
        yield from self.projector.tensors(self.tower, hidden)

    def forward(self, ops: Ops[T], pixels: T) -> T:
        """Tiles [T, C, h, w] -> decoder embeddings [T, tokens_per_tile, text hidden].

        Crops stay patches [T, N, tower hidden], which `crops.join` takes.
        """
        return self.projector.forward(ops, self.tower, self.tower.forward(ops, pixels))

    def sizes(self) -> Iterator[str]:
        """Numbers that are out of their range."""
        yield from size_problems(self.tower, "vision")
        yield from size_problems(self.projector, "projector")

    def problems(self) -> Iterator[str]:
        """What is wrong with the numbers, once `sizes` has none."""
        yield from self.tower.problems()
        yield from self.projector.problems(self.tower)


@dataclass(frozen=True)
class ImageVision:
    """Images of any size, one at a time. The id stands for an image's positions in a prompt."""

    tower: QwenVit
    projector: PatchMerger
    image_token_id: int
    kind: Literal["images"] = "images"

    @property
    def crops(self) -> None:
        """An image is not cut."""
        return None

    @property
    def tokens_per_tile(self) -> int:
        """Decoder positions of the example image, which counts as one tile."""
        return self.projector.tokens(self.tower)

    def image_positions(self, tiles: int) -> int:
        """Decoder positions of images as large as so many example images."""
        return self.tokens_per_tile * tiles

    def tensors(self, hidden: int) -> Tensors:
        """Names and shapes; `hidden` is the decoder's width."""
        yield from self.tower.tensors()
        yield from self.projector.tensors(self.tower, hidden)

    def forward(self, ops: Ops[T], pixels: T) -> T:
        """Patches of one image [N, patch_values] -> decoder embeddings [1, tokens, text hidden]."""
        return self.projector.forward(ops, self.tower, self.tower.forward(ops, pixels))

    def sizes(self) -> Iterator[str]:
        """Numbers that are out of their range."""
        yield from size_problems(self.tower, "vision")

    def problems(self) -> Iterator[str]:
        """What is wrong with the numbers, once `sizes` has none."""
        yield from self.tower.problems()
        yield from self.projector.problems(self.tower)


Vision = TileVision | ImageVision
