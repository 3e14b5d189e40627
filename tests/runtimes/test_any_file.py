"""Image files of any kind have the pixels that transformers' processors make, for every family.

test_prepare_image has many more sizes for SmolVLM, test_moondream the crops of Moondream.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import load_image as hf_load_image
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from export.images import ImageRecipe, Patches, Stretch, Tiles
from runtimes.prepare.image import load_image, pixels

HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Side:
    """Our recipe, and transformers' processor with the same settings."""

    recipe: ImageRecipe
    processor: Any


SIDES: Mapping[str, Side] = {
    "smolvlm": Side(
        Tiles(tile=32, longest_edge=128, split=True, mean=HALF, std=HALF, rescale=1 / 255),
        Idefics3ImageProcessorPil(
            size={"longest_edge": 128},
            max_image_size={"longest_edge": 32},
            image_mean=HALF,
            image_std=HALF,
        ),
    ),
    "gemma3": Side(
        Stretch(size=56, mean=HALF, std=HALF, rescale=1 / 255),
        Gemma3ImageProcessorPil(size={"height": 56, "width": 56}, do_convert_rgb=True),
    ),
    "qwen2_5_vl": Side(
        Patches(
            patch_size=14,
            merge_size=2,
            temporal_patch_size=2,
            min_pixels=3136,
            max_pixels=50_176,
            tile=448,
            mean=HALF,
            std=HALF,
            rescale=1 / 255,
        ),
        Qwen2VLImageProcessorPil(
            min_pixels=3136, max_pixels=50_176, image_mean=HALF, image_std=HALF
        ),
    ),
}


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 7919 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


def of_mode(mode: str, suffix: str, size: tuple[int, int] = (70, 40)) -> Callable[[Path], Path]:
    def saved(folder: Path) -> Path:
        image = noise(*size)
        if mode == "I;16":
            levels = np.random.default_rng(1).integers(0, 2**16, (size[1], size[0]))
            image = Image.fromarray(levels.astype(np.uint16))
        elif mode.endswith("A"):
            image.putalpha(noise(*size).convert("L").rotate(180))
        image.convert(mode).save(folder / f"image{suffix}")
        return folder / f"image{suffix}"

    return saved


def turned(orientation: int) -> Callable[[Path], Path]:
    def saved(folder: Path) -> Path:
        exif = Image.Exif()
        exif[0x0112] = orientation
        noise(70, 40).save(folder / "photo.jpg", exif=exif)
        return folder / "photo.jpg"

    return saved


def palette(transparency: int | bytes) -> Callable[[Path], Path]:
    def saved(folder: Path) -> Path:
        noise(70, 40).quantize(8).save(folder / "palette.png", transparency=transparency)
        return folder / "palette.png"

    return saved


FILES: Mapping[str, Callable[[Path], Path]] = {
    "black and white": of_mode("1", ".png"),
    "grey": of_mode("L", ".jpg"),
    "grey with alpha": of_mode("LA", ".png"),
    "grey of 16 bits": of_mode("I;16", ".png"),
    "palette": of_mode("P", ".gif"),
    "palette with a transparent colour": palette(3),
    "palette with alpha": palette(bytes([255, 0, 128, 7])),
    "alpha": of_mode("RGBA", ".png"),
    "CMYK": of_mode("CMYK", ".jpg"),
    "CMYK in a TIFF": of_mode("CMYK", ".tiff"),
    "one pixel high": of_mode("RGB", ".png", (90, 1)),
    "one pixel wide and grey": of_mode("L", ".png", (1, 90)),
    **{f"turned {n}": turned(n) for n in range(2, 9)},
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("family", SIDES)
def test_file_has_the_pixels_of_the_processor(family: str, name: str, tmp_path: Path) -> None:
    path, side = FILES[name](tmp_path), SIDES[family]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs warns of a palette's transparency
        theirs = side.processor(hf_load_image(str(path)), return_tensors="np")
    wanted = theirs["pixel_values"]
    found = pixels(load_image(path), side.recipe).values
    np.testing.assert_array_equal(found, wanted.reshape(found.shape))
