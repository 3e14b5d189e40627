"""From an image file to the tiles a vision tower takes. Pillow and numpy only.

NOT aware of prompts, tokens, runtimes or models: an ImageRecipe says what to do.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps, UnidentifiedImageError

from export.errors import UserError
from export.images import ImageRecipe
from export.images.pixels import Pixels
from export.images.resize import Size

MAX_PIXELS = 178_956_970
"""The size from which Pillow itself calls a file a decompression bomb (716 MB once decoded)."""

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


def one_tile(recipe: ImageRecipe | None) -> ImageRecipe | None:
    """The same recipe, if there is one, with images of one tile."""
    return None if recipe is None else recipe.one_tile()


def edge(recipe: ImageRecipe | None) -> int | None:
    """Pixels of an image's longest edge that the recipe makes use of; None without a recipe."""
    return None if recipe is None else recipe.used_edge


def pixels(image: Image.Image, recipe: ImageRecipe) -> Pixels:
    """The recipe's pixel values of one image of any mode; see `rgb` for what that raises."""
    return recipe.pixels(rgb(image, transparency=recipe.transparency))


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
