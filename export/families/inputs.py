"""How an image becomes pixel values and a question becomes ids, as data.

NOT aware of how it is done (runtimes/) or of the network behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Tiles:
    """Preprocessing by square tiles (Idefics3): longest edge, then up to multiples of `tile`.

    An image larger than one tile is cut row by row and followed by the whole image as an overview;
    `max_tiles` (tiles and overview together) lowers the longest edge until they fit. `max_edge`
    bounds a longest edge that a configuration sets higher (MAX_IMAGE_SIZE of Idefics3).
    """

    tile: int
    longest_edge: int
    split: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float
    resample: Literal["lanczos"] = "lanczos"
    max_tiles: int | None = None
    max_edge: int = 4096
    transparency: Literal["white", "dropped"] = "white"
    kind: Literal["tiles"] = "tiles"

    @property
    def most_tiles(self) -> int:
        """What one image becomes at most: longest_edge / tile squared and an overview."""
        side = min(self.longest_edge, self.max_edge) // self.tile
        tiles = side**2 + 1 if self.split and side > 1 else 1
        return min(tiles, self.max_tiles or tiles)

    def within(self, max_tiles: int | None) -> "Tiles":
        """The same recipe with at most so many tiles of an image; None: as many as it takes."""
        return replace(self, max_tiles=max_tiles)


@dataclass(frozen=True)
class Stretch:
    """Preprocessing to one square: both edges become `size`, whatever the image's shape."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float
    resample: Literal["bilinear"] = "bilinear"
    transparency: Literal["white", "dropped"] = "white"
    kind: Literal["stretch"] = "stretch"

    @property
    def most_tiles(self) -> int:
        """The stretched image is the one tile."""
        return 1

    def within(self, max_tiles: int | None) -> "Stretch":
        """Itself: one tile is always within."""
        return self


@dataclass(frozen=True)
class Patches:
    """Preprocessing to the nearest size of whole squares of patches (Qwen2-VL's smart_resize).

    Both edges become multiples of `patch` * `square`, with an area from `min_pixels` to
    `max_pixels`. A patch is a row of channels x frames x patch x patch values; rows come by
    squares. A budget of tiles is one of areas of `tile` x `tile` pixels.
    """

    patch: int
    square: int
    frames: int
    min_pixels: int
    max_pixels: int
    tile: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float
    resample: Literal["bicubic"] = "bicubic"
    transparency: Literal["white", "dropped"] = "white"
    max_tiles: int | None = None
    kind: Literal["patches"] = "patches"

    @property
    def most_tiles(self) -> int:
        """An image has no tiles; memory and time are foretold for one of `tile` x `tile`."""
        return 1

    @property
    def most_pixels(self) -> int:
        """`max_pixels`, or less if a budget says so; never less than `min_pixels`."""
        budget = (self.max_tiles or self.max_pixels) * self.tile**2
        return max(self.min_pixels, min(self.max_pixels, budget))

    def within(self, max_tiles: int | None) -> "Patches":
        """The same recipe with at most the area of so many tiles; None: as much as it takes."""
        return replace(self, max_tiles=max_tiles)


@dataclass(frozen=True)
class Crops:
    """Preprocessing by overlapping crops (Moondream 2): stretched to a grid of them.

    Neighbours share 2 `margin` pixels. An image that takes more than one crop is followed by the
    whole of it in one tile; one that takes one crop is that crop.
    """

    tile: int
    margin: int
    max_crops: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float
    resample: Literal["lanczos"] = "lanczos"
    transparency: Literal["white", "dropped"] = "dropped"
    max_tiles: int | None = None
    kind: Literal["crops"] = "crops"

    @property
    def most_crops(self) -> int:
        """What `max_crops` and a budget of `max_tiles`, the whole image's included, allow."""
        within = self.max_crops if self.max_tiles is None else self.max_tiles - 1
        return max(1, min(self.max_crops, within))

    @property
    def most_tiles(self) -> int:
        """The most crops and the whole image."""
        return self.most_crops + 1 if self.most_crops > 1 else 1

    def within(self, max_tiles: int | None) -> "Crops":
        """The same recipe with at most so many tiles of an image; None: as the checkpoint says."""
        return replace(self, max_tiles=max_tiles)


ImageRecipe = Tiles | Stretch | Patches | Crops


@dataclass(frozen=True)
class Prompt:
    """How a question and its images become text; `{…}` fields are filled in, tokens by string.

    `with_images` has {images} and {question}; `text_only` has {question}. An image that was cut
    becomes `tile` for each tile ({row}, {col} from 1, {tokens}), `row_end` after each row and
    `overview`; an uncut one becomes `single`. {tokens} is `image_token` repeated, as often as the
    image's own size says where `tokens_per_tile` is None. `strip`: the template drops white space
    around the question. Models for text alone have only `text_only`.
    """

    text_only: str
    with_images: str = ""
    tile: str = ""
    row_end: str = ""
    overview: str = ""
    single: str = ""
    image_token: str | None = None
    tokens_per_tile: int | None = None
    strip: bool = False
    kind: Literal["text"] = "text"

    @property
    def most_images(self) -> int | None:
        """As many as the context holds (None), or no image at all."""
        return 0 if self.image_token is None else None


@dataclass(frozen=True)
class Task:
    """One thing that can be asked: ids `before`, the text of `opening`, the places that the request
    names, the text of `closing` with its {question}, ids `after`.

    Texts are encoded each by itself. answer: words, or up to `most` places in the image.
    needs: what a request must have.
    """

    before: tuple[int, ...]
    opening: str
    closing: str
    after: tuple[int, ...]
    answer: Literal["text", "boxes", "points"] = "text"
    most: int = 0
    needs: tuple[Literal["image", "question", "place"], ...] = ()


@dataclass(frozen=True)
class Templates:
    """A prompt put together from ids: `start`, an image's positions, then a task's.

    The first of `tasks` is asked where a request names none. Positions that are no token (of an
    image, of a coordinate) have the id `placeholder`, which no text encodes to. `never_later`: ids
    that are not chosen behind the first token of an answer.
    """

    start: tuple[int, ...]
    placeholder: int
    image_positions: int
    tasks: Mapping[str, Task]
    never_later: tuple[int, ...] = ()
    kind: Literal["ids"] = "ids"

    @property
    def image_token(self) -> None:
        """No text stands for an image."""

    @property
    def most_images(self) -> int:
        """The first positions of a prompt are made for one."""
        return 1


PromptRecipe = Prompt | Templates
