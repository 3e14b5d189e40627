"""Loads image files, and makes a model's pixel values of an image of any mode."""

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
"""Images with more pixels are refused: Pillow's limit for decompression bombs (716 MB once
decoded)."""

EXTERNAL_DECODERS = frozenset({"EPS"})  # Pillow would run Ghostscript on it

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
    Warning,  # where warnings are turned into errors
)


def load_image(path: str | Path) -> Image.Image:
    """Loads an image file as RGB, rotated upright by its EXIF orientation.

    Of an animation, returns the first frame. The pixels equal those of
    `transformers.image_utils.load_image`: transparency is dropped, not blended. Raises UserError
    for a file that is missing, damaged, not an image, or larger than MAX_PIXELS.
    """
    with _decoding(str(path)):
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; give the path of an image")
        return _loaded(Path(path), str(path))


def load_image_bytes(data: bytes, name: str) -> Image.Image:
    """Loads an image from a file's content, as `load_image` does from a file.

    `name` stands for the file in error messages.
    """
    with _decoding(name):
        return _loaded(io.BytesIO(data), name)


def _loaded(file: Path | io.BytesIO, name: str) -> Image.Image:
    with Image.open(file) as image:
        if image.format in EXTERNAL_DECODERS:
            raise UserError(f"{name}: {image.format} is not decoded; convert it to PNG first")
        _check_size(image.size, name)
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "P" and isinstance(upright.info.get("transparency"), bytes):
            del upright.info["transparency"]  # convert would drop it with a warning
        return upright.convert("RGB")


def rgb(
    image: Image.Image, name: str = "the image", transparency: Literal["white", "dropped"] = "white"
) -> Image.Image:
    """Converts an image to RGB, with its transparency dropped or blended onto white.

    Blending equals transformers' convert_to_rgb. Returns `image` itself if it is RGB already, and
    does not apply an EXIF orientation. Raises UserError, with `name` in the message, for an image
    that is empty, too large or cannot be decoded.
    """
    _check_size(image.size, name)
    with _decoding(name):
        if transparency == "dropped":
            image.load()
            return image if image.mode == "RGB" else image.convert("RGB")
        if "A" in image.getbands() or image.info.get("transparency") is not None:
            foreground = image.convert("RGBA")
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            return Image.alpha_composite(white, foreground).convert("RGB")
        image.load()  # an opened file is decoded here, where damage is reported
        return image if image.mode == "RGB" else image.convert("RGB")


def one_tile(recipe: ImageRecipe | None) -> ImageRecipe | None:
    """Returns a recipe that makes one tile of every image, and is otherwise the same.

    None, for text-only models, stays None.
    """
    return None if recipe is None else recipe.one_tile()


def edge(recipe: ImageRecipe | None) -> int | None:
    """Returns the longest edge, in pixels, of the largest image that a recipe does not scale down.

    None for text-only models, which have no recipe.
    """
    return None if recipe is None else recipe.used_edge


def pixels(image: Image.Image, recipe: ImageRecipe) -> Pixels:
    """Returns a model's pixel values for one image of any mode, as its recipe prescribes.

    Raises UserError as `rgb` does.
    """
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
    """Context manager: turns Pillow's errors on an image file `name` into UserErrors."""
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
