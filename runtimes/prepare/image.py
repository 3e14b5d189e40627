"""Loads image files, and makes a model's pixel values of an image of any mode."""

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, cast

from PIL import Image, ImageOps, UnidentifiedImageError

from export.errors import UserError
from export.images import ImageRecipe
from export.images.pixels import Pixels
from export.images.resize import Size

MAX_PIXELS = 178_956_970
"""Images with more pixels are refused: Pillow's limit for decompression bombs (716 MB once
decoded)."""

WIDE_GREY = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
"""Pillow's modes of grey values of 16 and 32 bits."""

NOTE = "pocketvlm_note"  # key of Image.info

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
)

_FILTERS = threading.Lock()
"""Held while the process's filters of warnings are changed: they are shared by all threads."""


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
        converted = upright.convert("RGB")
        if (found := _cut(upright)) is not None:
            converted.info[NOTE] = f"{name}: {found}"
        return converted


def note_of(image: Image.Image) -> str | None:
    """Returns in one line what a loaded image lost when it was read; None: nothing."""
    return cast(str | None, image.info.get(NOTE))


def _cut(image: Image.Image) -> str | None:
    """Describes the loss if grey values of over 8 bits are made 8 bits as Pillow does; else None.

    Pillow cuts them at 0 and 255, whatever their range; transformers' processors inherit that.
    """
    if image.mode not in WIDE_GREY:
        return None
    low, high = cast(tuple[float, float], image.convert("F").getextrema())
    fractions = image.mode == "F" and 0 < high <= 1  # would be black
    if low >= 0 and high <= 255 and not fractions:
        return None
    return (
        f"grey values from {low:g} to {high:g} are read as 0 (black) to 255 (white) and cut there, "
        f"as in transformers; scale them to 8 bits first if they mean something else"
    )


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
    """Context manager: turns Pillow's errors on an image file `name` into UserErrors.

    Pillow's warnings are dropped, also where warnings are errors: they are about images that it
    reads all the same.
    """
    try:
        with _FILTERS, warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
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
