"""From an image file to the tiles a vision tower takes. Pillow and numpy only.

NOT aware of prompts, tokens, runtimes or models: an ImageRecipe says what to do.
"""

import io
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from export.errors import UserError
from export.families.inputs import Crops, ImageRecipe, Patches, Stretch, Tiles
from runtimes.base import FloatArray
from runtimes.prepare import crops
from runtimes.prepare.resize import Size, resize

MAX_PIXELS = 178_956_970
"""The size from which Pillow itself calls a file a decompression bomb (716 MB once decoded)."""

RESAMPLE: Mapping[str, Image.Resampling] = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,  # antialiased, as all of Pillow's filters
}
MOST_LONGER = 200
"""Qwen2-VL's limit of an image's aspect ratio."""
RUNS_PROGRAMS = frozenset({"EPS"})  # Pillow decodes it with Ghostscript: foreign code

# What Pillow's decoders raise on damaged files (found by mutating files of every format).
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    Warning,  # where warnings are made errors
)


@dataclass(frozen=True)
class Grid:
    """How an image is cut: resized to `scaled`, then to `resized`, into `rows` x `cols` tiles."""

    scaled: Size
    resized: Size
    rows: int
    cols: int

    @property
    def tiles(self) -> int:
        """Tiles the tower sees: the grid and, where the image was cut, the overview."""
        cut = self.rows * self.cols
        return cut + 1 if cut > 1 else 1


@dataclass(frozen=True)
class Pixels:
    """One prepared image: `values` float32 [tiles, 3, tile, tile], row by row, overview last.

    `rows` x `cols` is the grid of tiles (1 x 1 and a single tile when the image was not cut);
    `rgb` is the image before cutting (of tiles, resized), for runtimes that cut it themselves. An
    image of any size has its patches as rows of `values` [patches, values of one] and `cells`: rows
    and columns of squares of patches, each of which becomes one token.
    """

    values: FloatArray
    rows: int
    cols: int
    rgb: Image.Image
    cells: Size | None = None

    @property
    def tiles(self) -> int:
        """Tiles of `values`; an image of any size is one."""
        return len(self.values) if self.cells is None else 1


def load_image(path: str | Path) -> Image.Image:
    """An image file as RGB, upright by its EXIF orientation; the first frame of an animation.

    The same pixels as `transformers.image_utils.load_image`: transparency is dropped, not blended.
    Raises UserError for what is missing, no image, damaged, or larger than MAX_PIXELS.
    """
    with _decoding(str(path)):
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; give the path of an image")
        return _loaded(Path(path), str(path))


def load_image_bytes(data: bytes, name: str) -> Image.Image:
    """The same of a file's bytes; `name` is for errors."""
    with _decoding(name):
        return _loaded(io.BytesIO(data), name)


def _loaded(file: Path | io.BytesIO, name: str) -> Image.Image:
    with Image.open(file) as image:
        if image.format in RUNS_PROGRAMS:
            raise UserError(f"{name}: {image.format} is not decoded; convert it to PNG first")
        _check_size(image.size, name)
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "P" and isinstance(upright.info.get("transparency"), bytes):
            del upright.info["transparency"]  # dropped in any case, but with a warning
        return upright.convert("RGB")


def rgb(
    image: Image.Image, name: str = "the image", transparency: Literal["white", "dropped"] = "white"
) -> Image.Image:
    """An image in memory as RGB, transparency blended onto white (transformers' convert_to_rgb), or
    dropped.

    Returns `image` itself where nothing is to do; an EXIF orientation is left alone. `name` is for
    errors: UserError for an empty or too large image and for one that cannot be decoded.
    """
    _check_size(image.size, name)
    with _decoding(name):
        if transparency == "dropped":
            image.load()
            return image if image.mode == "RGB" else image.convert("RGB")
        if "A" in image.getbands() or image.info.get("transparency") is not None:
            over = image.convert("RGBA")
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            return Image.alpha_composite(white, over).convert("RGB")
        image.load()  # an opened file is decoded here, where its damages are reported
        return image if image.mode == "RGB" else image.convert("RGB")


def grid(size: Size, recipe: Tiles) -> Grid:
    """How the recipe cuts an image of this size; decides the number of tiles without any pixels.

    With `max_tiles`, the largest longest edge that keeps to it: the recipe's, else the nearest
    lower multiple of the tile. Raises UserError where not even one tile's edge does.
    """
    if recipe.max_tiles is None:
        return _grid(size, recipe)
    lower = range((recipe.longest_edge - 1) // recipe.tile * recipe.tile, 0, -recipe.tile)
    for edge in (recipe.longest_edge, *lower):
        found = _grid(size, replace(recipe, longest_edge=edge))
        if found.tiles <= recipe.max_tiles:
            return found
    raise UserError(f"max_tiles {recipe.max_tiles} is too few for any image; give 1 or more")


def one_tile(recipe: ImageRecipe | None) -> ImageRecipe | None:
    """The same recipe, if there is one, with images of one tile."""
    if recipe is None:
        return None
    if isinstance(recipe, Tiles):
        return replace(recipe, longest_edge=recipe.tile)
    return recipe.within(1)


def edge(recipe: ImageRecipe | None) -> int | None:
    """Pixels of an image's longest edge that the recipe makes use of; None without a recipe."""
    match recipe:
        case None:
            return None
        case Tiles(longest_edge=longest):
            return longest
        case Stretch(size=size):
            return size
        case Patches(tile=tile):
            return tile
        case Crops(tile=tile, margin=margin):
            return math.isqrt(recipe.most_crops) * (tile - 2 * margin) + 2 * margin


def pixels(image: Image.Image, recipe: ImageRecipe) -> Pixels:
    """Execute the recipe on one image of any mode (see `rgb` for what that means and raises).

    Equal to transformers' image processors on Pillow to the bit (Idefics3's, Gemma 3's and
    Qwen2-VL's): each step works on uint8, and the normalised value is one of 256 a channel.
    """
    image = rgb(image, transparency=recipe.transparency)
    if isinstance(recipe, Crops):
        return _cropped(image, recipe)
    if isinstance(recipe, Patches):
        return _in_patches(image, recipe)
    if isinstance(recipe, Stretch):
        whole = resize(image, (recipe.size, recipe.size), RESAMPLE[recipe.resample])
        return Pixels(_normalised([np.asarray(whole)], recipe.size, recipe), 1, 1, whole)
    return _tiled(image, recipe)


def nearest_size(size: Size, recipe: Patches) -> Size:
    """The size in whole squares that an image is stretched to (Qwen2-VL's smart_resize).

    Raises UserError for an image that is more than 200 times as long as wide.
    """
    width, height = size
    unit = recipe.patch * recipe.square
    if max(size) > MOST_LONGER * min(size):
        raise UserError(
            f"an image of {width} x {height} pixels is over {MOST_LONGER} times longer than wide; "
            f"cut it into parts"
        )
    rounded = round(width / unit) * unit, round(height / unit) * unit
    area, most = rounded[0] * rounded[1], recipe.most_pixels
    if area > most:
        scale = math.sqrt(height * width / most)
        width, height = (max(unit, math.floor(n / scale / unit) * unit) for n in size)
        return width, height
    if area < recipe.min_pixels:
        scale = math.sqrt(recipe.min_pixels / (height * width))
        width, height = (math.ceil(n * scale / unit) * unit for n in size)
        return width, height
    return rounded


def _in_patches(image: Image.Image, recipe: Patches) -> Pixels:
    """Rows of channels x frames x patch x patch, the patches of a square one after the other."""
    width, height = nearest_size(image.size, recipe)
    image = resize(image, (width, height), RESAMPLE[recipe.resample])
    values = np.empty((1, 3, height, width), np.float32)
    _normalise(np.asarray(image), values[0], recipe)
    patch, square = recipe.patch, recipe.square
    rows, cols = height // patch // square, width // patch // square
    cut = values.reshape(3, 1, rows, square, patch, cols, square, patch)
    cut = cut.repeat(recipe.frames, axis=1).transpose(2, 5, 3, 6, 0, 1, 4, 7)
    flat = cut.reshape(rows * cols * square**2, -1)
    return Pixels(flat, 1, 1, image, (rows, cols))


def _cropped(image: Image.Image, recipe: Crops) -> Pixels:
    rows, cols = crops.tiling(image.size, recipe)
    tiles = crops.cut(image, recipe, RESAMPLE[recipe.resample])
    return Pixels(_normalised(tiles, recipe.tile, recipe), rows, cols, image)


def _tiled(image: Image.Image, recipe: Tiles) -> Pixels:
    cut, resample, tile = grid(image.size, recipe), RESAMPLE[recipe.resample], recipe.tile
    image = resize(image, cut.scaled, resample)
    if cut.resized != cut.scaled:
        image = resize(image, cut.resized, resample)
    whole = np.asarray(image)  # [height, width, 3]
    corners = [(row * tile, col * tile) for row in range(cut.rows) for col in range(cut.cols)]
    tiles = [whole[y : y + tile, x : x + tile] for y, x in corners]
    if cut.tiles > 1:
        tiles.append(np.asarray(resize(image, (tile, tile), resample)))
    return Pixels(_normalised(tiles, tile, recipe), cut.rows, cut.cols, image)


def _grid(size: Size, recipe: Tiles) -> Grid:
    tile = recipe.tile
    width, height = _scaled(size, recipe.longest_edge, even=True)
    if max(width, height) > recipe.max_edge:
        width, height = _scaled((width, height), recipe.max_edge, even=False)
    if not recipe.split:
        return Grid((width, height), (tile, tile), 1, 1)
    aspect = width / height
    if width >= height:
        full_width = _multiple(width, tile)
        full = full_width, _multiple(int(full_width / aspect), tile)
    else:
        full_height = _multiple(height, tile)
        full = _multiple(int(full_height * aspect), tile), full_height
    return Grid((width, height), full, full[1] // tile, full[0] // tile)


def _scaled(size: Size, edge: int, even: bool) -> Size:
    """The longest edge becomes `edge`; the other one follows, truncated, at least one pixel.

    Floating point in transformers' order: another order truncates to another pixel now and then.
    """
    width, height = size
    aspect = width / height
    other = int(edge / aspect) if width >= height else int(edge * aspect)
    if even:
        other += other % 2
    other = max(other, 1)
    return (edge, other) if width >= height else (other, edge)


def _multiple(length: int, of: int) -> int:
    return math.ceil(length / of) * of


def _normalised(tiles: list[NDArray[np.uint8]], edge: int, recipe: ImageRecipe) -> FloatArray:
    """uint8 [tile, tile, 3] each to float32 [tiles, 3, tile, tile] by a table of 256 a channel."""
    values = np.empty((len(tiles), 3, edge, edge), np.float32)
    for tile, out in zip(tiles, values, strict=True):
        _normalise(tile, out, recipe)
    return values


def _normalise(rgb: NDArray[np.uint8], out: FloatArray, recipe: ImageRecipe) -> None:
    """uint8 [height, width, 3] into float32 [3, height, width]."""
    levels = (np.arange(256) * recipe.rescale).astype(np.float32)  # product in float64, as theirs
    for channel, (mean, std) in enumerate(zip(recipe.mean, recipe.std, strict=True)):
        table = (levels - np.float32(mean)) / np.float32(std)
        np.take(table, rgb[:, :, channel], out=out[channel], mode="clip")  # clip: without a buffer


def _check_size(size: Size, name: str) -> None:
    width, height = size
    if not width or not height:
        raise UserError(f"{name}: an empty image of {width} x {height} pixels; it needs at least 1")
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{name}: {width} x {height} pixels are more than {MAX_PIXELS}; give a smaller image"
        )


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as error:
        raise UserError(f"{name}: not an image in a format that Pillow knows") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{name}: more than {MAX_PIXELS} pixels; give a smaller image") from error
    except PermissionError as error:
        raise UserError(f"{name}: not readable; check its permissions") from error
    except DAMAGED as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name}: damaged or unsupported image ({reason})") from error
