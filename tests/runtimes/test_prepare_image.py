"""Pixel values are bit-identical to those of transformers' Idefics3 image processor."""

import struct
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import load_image as hf_load_image
from transformers.models.idefics3.image_processing_pil_idefics3 import (
    Idefics3ImageProcessorPil,
    get_resize_output_image_size,
)

from export.errors import UserError
from export.images import Tiles
from export.images.pixels import Pixels
from runtimes.prepare.image import MAX_PIXELS, load_image, pixels, rgb

HALF = (0.5, 0.5, 0.5)
TILES = Tiles(tile=32, longest_edge=128, split=True, mean=HALF, std=HALF, rescale=1 / 255)
FULL = replace(TILES, tile=512, longest_edge=2048)

SIZES = {  # width, height
    "exactly one tile": (32, 32),
    "one pixel more": (33, 32),
    "one pixel less": (31, 32),
    "exactly the longest edge": (128, 128),
    "above the longest edge": (129, 128),
    "twice the longest edge": (256, 256),
    "a 4 x 4 grid": (128, 97),
    "a small square": (7, 7),
    "a single pixel": (1, 1),
    "two pixels": (2, 1),
    "one pixel high": (200, 1),
    "one pixel wide": (1, 200),
    "one pixel high, very wide": (20000, 1),
    "three pixels high": (90, 3),
    "three pixels wide": (3, 90),
    "wide": (300, 100),
    "tall": (100, 300),
    "very wide": (1000, 10),
    "very tall": (10, 1000),
    "4:3": (160, 120),
    "3:4": (120, 160),
    "16:9": (192, 108),
    "odd": (101, 77),
    "prime": (211, 97),
    "nearly square": (100, 99),
    "nearly square, tall": (99, 100),
    "golden": (89, 55),
}


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 7919 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


def hf_pixels(image: Image.Image, recipe: Tiles) -> Pixels:
    processor = Idefics3ImageProcessorPil(
        size={"longest_edge": recipe.longest_edge},
        max_image_size={"longest_edge": recipe.tile},
        do_image_splitting=recipe.split,
        image_mean=list(recipe.mean),
        image_std=list(recipe.std),
        rescale_factor=recipe.rescale,
    )
    found = processor(image, return_row_col_info=True, return_tensors="np")
    rows, cols = found["rows"][0][0] or 1, found["cols"][0][0] or 1
    return Pixels(found["pixel_values"][0], rows, cols, image)


def assert_equal(ours: Pixels, theirs: Pixels) -> None:
    assert (ours.rows, ours.cols) == (theirs.rows, theirs.cols)
    assert ours.values.dtype == theirs.values.dtype == np.float32
    np.testing.assert_array_equal(ours.values, theirs.values)


@pytest.mark.parametrize("split", [True, False], ids=["split", "whole"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_pixels_equal_the_processor(size, split):
    recipe = replace(TILES, split=split)
    assert_equal(pixels(noise(*size), recipe), hf_pixels(noise(*size), recipe))


RECIPES = {
    "SmolVLM-256M": (FULL, (640, 480)),
    "SmolVLM-Instruct": (replace(FULL, tile=384, longest_edge=1536), (500, 900)),
    "a longest edge between tiles": (replace(TILES, longest_edge=100), (90, 60)),
    "a longest edge below one tile": (replace(TILES, longest_edge=20), (90, 60)),
    "an odd tile": (replace(TILES, tile=27, longest_edge=81), (90, 60)),
    "other statistics": (
        replace(TILES, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28), rescale=1 / 256),
        (90, 60),
    ),
}


@pytest.mark.parametrize(("recipe", "size"), RECIPES.values(), ids=RECIPES)
def test_pixels_equal_the_processor_for_other_recipes(recipe, size):
    assert_equal(pixels(noise(*size), recipe), hf_pixels(noise(*size), recipe))


@pytest.mark.parametrize("edge", [128, 364, 1536, 2048, 4096, 4097, 9999])
def test_first_resize_has_the_size_of_transformers(edge):
    recipe = replace(FULL, longest_edge=edge)
    sizes = np.random.default_rng(edge).integers(1, 5000, (400, 2)).tolist()
    for width, height in [*sizes, (1, 9), (9, 1), (50000, 3), (3, 50000)]:
        theirs = get_resize_output_image_size(np.empty((3, height, width), np.uint8), edge)
        assert recipe.grid((width, height)).scaled == theirs[::-1]


def test_grid_predicts_the_number_of_tiles():
    for size in SIZES.values():
        found, foretold = pixels(noise(*size), TILES), TILES.grid(size)
        assert (found.rows, found.cols) == (foretold.rows, foretold.cols)
        assert len(found.values) == foretold.tiles
        assert found.rgb.size == foretold.resized


def test_tiles_are_cut_from_the_resized_image_row_by_row():
    found = pixels(noise(120, 80), TILES)
    whole = np.asarray(found.rgb)
    for n in range(found.rows * found.cols):
        y, x = (32 * place for place in divmod(n, found.cols))
        levels = np.round((found.values[n] * 0.5 + 0.5) * 255).astype(np.uint8)
        np.testing.assert_array_equal(levels.transpose(1, 2, 0), whole[y : y + 32, x : x + 32])


# budget, size, longest edge after the budget (128 without): rows x cols + 1 = 17, 10, 5, 1 squares
BUDGETS = [
    (17, (90, 90), 128),
    (16, (90, 90), 96),
    (9, (90, 90), 64),
    (4, (90, 90), 32),
    (1, (90, 90), 32),
    (5, (900, 90), 128),
    (4, (900, 90), 96),
    (2, (900, 90), 32),
]


@pytest.mark.parametrize(("budget", "size", "edge"), BUDGETS)
def test_tile_budget_lowers_the_longest_edge(budget, size, edge):
    found = pixels(noise(*size), replace(TILES, max_tiles=budget))
    assert len(found.values) <= budget
    assert_equal(found, hf_pixels(noise(*size), replace(TILES, longest_edge=edge)))


def test_budget_of_zero_tiles_is_a_user_error():
    with pytest.raises(UserError, match="max_tiles 0 is too few"):
        replace(TILES, max_tiles=0).grid((9, 9))


MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F", "I;16")


def of_mode(mode: str) -> Image.Image:
    image = noise(70, 40)
    if mode == "I;16":
        return Image.fromarray((np.arange(2800).reshape(40, 70) * 23 % 2**16).astype(np.uint16))
    if "A" in mode:
        image.putalpha(noise(70, 40).convert("L").rotate(180))
        return image.quantize().convert("PA") if mode == "PA" else image.convert(mode)
    return image.convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_image_of_any_mode_equals_the_processor(mode):
    image = of_mode(mode)
    assert image.mode == mode
    assert_equal(pixels(image, TILES), hf_pixels(image, TILES))


def test_transparent_colour_equals_the_processor():
    image = noise(9, 9).quantize(8)
    image.info["transparency"] = 3
    assert_equal(pixels(image, TILES), hf_pixels(image, TILES))


def same_as_transformers(path: Path) -> None:
    ours = load_image(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs warns of a palette's transparency
        theirs = hf_load_image(str(path))
    assert (ours.mode, ours.size) == (theirs.mode, theirs.size)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert_equal(pixels(ours, TILES), hf_pixels(theirs, TILES))


FILES = [
    *((mode, ".png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *((mode, ".tiff") for mode in ("1", "L", "LA", "RGB", "CMYK", "I;16", "F")),
    *((mode, ".jpg") for mode in ("L", "RGB", "CMYK")),
    *((mode, ".webp") for mode in ("RGB", "RGBA")),
    *((mode, ".bmp") for mode in ("1", "L", "P", "RGB")),
    ("P", ".gif"),
    ("RGB", ".ppm"),
]


@pytest.mark.parametrize(("mode", "suffix"), FILES)
def test_file_loads_as_in_transformers(mode, suffix, tmp_path):
    of_mode(mode).save(tmp_path / f"image{suffix}")
    same_as_transformers(tmp_path / f"image{suffix}")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photo_is_rotated_upright_as_in_transformers(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise(70, 40).save(tmp_path / "photo.jpg", exif=exif)
    same_as_transformers(tmp_path / "photo.jpg")
    upright = load_image(tmp_path / "photo.jpg").size
    assert upright == ((40, 70) if orientation > 4 else (70, 40))


@pytest.mark.parametrize("transparency", [3, bytes([255, 0, 128, 7])])
def test_palette_with_transparency_loads_as_in_transformers(transparency, tmp_path):
    noise(70, 40).quantize(8).save(tmp_path / "palette.png", transparency=transparency)
    same_as_transformers(tmp_path / "palette.png")


def test_animation_loads_as_its_first_frame(tmp_path):
    frames = [noise(20, 10).quantize(16), noise(10, 20).resize((20, 10)).quantize(16)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    same_as_transformers(tmp_path / "moving.gif")


def chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def nearly_no_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"1"))


def cut_off(suffix: str) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    noise(70, 40).save(buffer, suffix)
    return buffer.getvalue()[:-2000]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
BROKEN = {
    "an empty file": (b"", "not an image"),
    "text": (b"hello", "not an image"),
    "a PNG with next to no pixels": (nearly_no_png(4, 4), "damaged"),
    "half a PNG": (cut_off("png"), "damaged"),
    "half a JPEG": (cut_off("jpeg"), "damaged"),
    "half a WebP": (cut_off("webp"), "damaged|not an image"),
    "a decompression bomb": (nearly_no_png(20000, 20000), f"more than {MAX_PIXELS} pixels"),
    "a bomb of the largest size": (nearly_no_png(2**31 - 1, 2**31 - 1), "more than"),
    "a program for Ghostscript": (EPS, "EPS is not decoded"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_unusable_file_is_refused_in_one_line(content, message, tmp_path):
    path = tmp_path / "given.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.png", ".", "nul\0.png", "x" * 300])
def test_path_that_is_not_a_file_is_refused_in_one_line(name, tmp_path):
    with pytest.raises(UserError, match=r"no such file|damaged or unsupported"):
        load_image(f"{tmp_path}/{name}")


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_empty_image_is_a_user_error(size):
    with pytest.raises(UserError, match="the image: an empty image"):
        pixels(Image.new("RGB", size), TILES)


def test_rgb_returns_an_rgb_image_unchanged():
    image = noise(4, 4)
    assert rgb(image) is image
