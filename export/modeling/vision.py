"""The vision part of a model: a vision encoder, called tower, and a projector.

The projector maps the encoder's patches to embeddings that the text decoder takes.
"""

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
    """The vision part of a model that takes images as square tiles of one size.

    The projector maps the patches of the encoder (`tower`) to decoder embeddings. In a prompt, the
    positions of an image have the id `image_token_id`.
    """

    tower: Vit
    projector: TileProjector
    image_token_id: int
    kind: Literal["tiles"] = "tiles"

    @property
    def crops(self) -> CropMlp | None:
        """The projector if it joins the crops of an image, otherwise None."""
        return self.projector if isinstance(self.projector, CropMlp) else None

    @property
    def tokens_per_tile(self) -> int:
        """How many decoder positions one tile takes; joined crops share those of one tile."""
        return self.projector.tokens(self.tower)

    def image_positions(self, tiles: int) -> int:
        """Returns how many decoder positions an image that was cut into `tiles` tiles takes."""
        return self.tokens_per_tile * (min(tiles, 1) if self.crops else tiles)

    def tensors(self, hidden: int) -> Tensors:
        """Yields name and shape of every weight tensor; `hidden` is the decoder's width."""
        yield from self.tower.tensors()
        yield from self.projector.tensors(self.tower, hidden)

    def forward(self, ops: Ops[T], pixels: T) -> T:
        """Maps T tiles [T, C, h, w] to decoder embeddings [T, tokens_per_tile, text hidden].

        A model that joins crops gets patches [T, N, tower hidden], which `crops.join` maps.
        """
        return self.projector.forward(ops, self.tower, self.tower.forward(ops, pixels))

    def sizes(self) -> Iterator[str]:
        """Yields a message for each hyperparameter that is out of its range."""
        yield from size_problems(self.tower, "vision")
        yield from size_problems(self.projector, "projector")

    def problems(self) -> Iterator[str]:
        """Yields a message for each pair of hyperparameters that do not fit each other.

        It may be called only if `sizes` yields nothing.
        """
        yield from self.tower.problems()
        yield from self.projector.problems(self.tower)


@dataclass(frozen=True)
class ImageVision:
    """The vision part of a model that takes one image of any size at a time.

    The projector maps the patches of the encoder (`tower`) to decoder embeddings. In a prompt, the
    positions of an image have the id `image_token_id`.
    """

    tower: QwenVit
    projector: PatchMerger
    image_token_id: int
    kind: Literal["images"] = "images"

    @property
    def crops(self) -> None:
        """Always None: images are not cut into crops."""
        return None

    @property
    def tokens_per_tile(self) -> int:
        """How many decoder positions the example image of `tower.image_size` takes.

        It counts as one tile.
        """
        return self.projector.tokens(self.tower)

    def image_positions(self, tiles: int) -> int:
        """Returns how many decoder positions an image as large as `tiles` example images takes."""
        return self.tokens_per_tile * tiles

    def tensors(self, hidden: int) -> Tensors:
        """Yields name and shape of every weight tensor; `hidden` is the decoder's width."""
        yield from self.tower.tensors()
        yield from self.projector.tensors(self.tower, hidden)

    def forward(self, ops: Ops[T], pixels: T) -> T:
        """Maps an image's patches [N, patch_values] to embeddings [1, tokens, text hidden]."""
        return self.projector.forward(ops, self.tower, self.tower.forward(ops, pixels))

    def sizes(self) -> Iterator[str]:
        """Yields a message for each hyperparameter that is out of its range."""
        yield from size_problems(self.tower, "vision")

    def problems(self) -> Iterator[str]:
        """Yields a message for each pair of hyperparameters that do not fit each other.

        It may be called only if `sizes` yields nothing.
        """
        yield from self.tower.problems()
        yield from self.projector.problems(self.tower)


Vision = TileVision | ImageVision
