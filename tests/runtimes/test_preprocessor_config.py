"""Whatever preprocessor_config.json says, pixels are those of transformers, or it is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_configs import CONFIGS, PREPROCESSORS
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from export.arrays import FloatArray
from export.errors import UserError
from export.families import FAMILIES
from export.families.section import Section
from runtimes.prepare.image import pixels

Json = dict[str, Any]
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8))
GREY = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 32), np.uint8))


@dataclass(frozen=True)
class Settings:
    """A processor class of transformers; its settings -> a valid value that the tiny file lacks.

    read: the recipe follows it. refused: one line names it. inert: the pixels stay the same.
    asked: what the processor around it always passes.
    """

    processor: Any
    read: Json
    refused: Json
    inert: Json
    asked: Json


READ: Json = {
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.3, 0.4],
    "rescale_factor": 0.01,
}
REFUSED: Json = {
    "do_convert_rgb": False,
    "do_normalize": False,
    "do_rescale": False,
    "do_resize": False,
    "image_processor_type": "CLIPImageProcessor",
    "resample": 0,
}
# return_tensors and layouts of arrays are the caller's; transformers' own models take the first.
INERT: Json = {
    "crop_size": {"height": 8, "width": 8},
    "data_format": "channels_first",
    "default_to_square": False,
    "device": "cpu",
    "disable_grouping": True,
    "do_center_crop": True,
    "do_pad": False,
    "image_seq_length": 9,
    "input_data_format": None,
    "pad_size": {"height": 300, "width": 300},
    "processor_class": "X",
    "return_tensors": None,
}
IDEFICS3 = Settings(
    Idefics3ImageProcessorPil,
    READ | {"do_image_splitting": False, "size": {"longest_edge": 96}},
    REFUSED | {"max_image_size": {"longest_edge": 16}},
    INERT | {"return_row_col_info": True},
    {},
)
CASES: Mapping[str, tuple[str, Settings]] = {
    "idefics3": ("smolvlm", IDEFICS3),
    "smolvlm": (
        "smolvlm",
        Settings(SmolVLMImageProcessorPil, IDEFICS3.read, IDEFICS3.refused, IDEFICS3.inert, {}),
    ),
    "gemma3": (
        "gemma3",
        Settings(
            Gemma3ImageProcessorPil,
            READ,
            REFUSED | {"do_pan_and_scan": True, "size": {"height": 32, "width": 16}},
            INERT
            | {
                "pan_and_scan_max_num_crops": 2,
                "pan_and_scan_min_crop_size": 8,
                "pan_and_scan_min_ratio_to_activate": 1.0,
            },
            {},
        ),
    ),
    "qwen2_5_vl": (
        "qwen2_5_vl",
        Settings(
            Qwen2VLImageProcessorPil,
            READ
            | {
                "max_pixels": 2048,
                "merge_size": 4,
                "min_pixels": 3000,
                "patch_size": 8,
                "temporal_patch_size": 1,
            },
            REFUSED,
            INERT | {"size": {"longest_edge": 9}},  # the other two names come first
            {},
        ),
    ),
    "internvl": (
        "internvl",
        Settings(
            GotOcr2ImageProcessorPil,
            READ | {"max_patches": 3, "min_patches": 5},
            REFUSED | {"size": {"height": 32, "width": 16}},
            INERT | {"crop_to_patches": False},
            {"crop_to_patches": True},
        ),
    ),
}


def ours(family: str, settings: Json, image: Image.Image) -> FloatArray:
    config = Section(CONFIGS[family], "config.json")
    found = FAMILIES[family]
    recipe = found.image(found.read(config), Section(settings, "preprocessor_config.json"))
    return pixels(image, recipe).values


def assert_equal_pixels(case: str, changes: Json) -> None:
    family, known = CASES[case]
    settings = PREPROCESSORS[family] | changes
    given = {k: v for k, v in settings.items() if k in known.processor.valid_kwargs.__annotations__}
    for image in (NOISE, GREY):
        found = ours(family, settings, image)
        made = known.processor(**given)(image, **known.asked, **{"return_tensors": "np"})
        wanted = np.asarray(made["pixel_values"])
        np.testing.assert_allclose(found, wanted.reshape(found.shape), rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_every_setting_of_transformers_is_classified(case: str) -> None:
    known = CASES[case][1]
    theirs = known.processor.valid_kwargs.__annotations__.keys()
    classified = known.read.keys() | known.refused.keys() | known.inert.keys()
    assert theirs - classified == set()


@pytest.mark.parametrize(("case", "key"), [(c, k) for c in CASES for k in CASES[c][1].read])
def test_a_setting_that_is_read_gives_transformers_pixels(case: str, key: str) -> None:
    assert_equal_pixels(case, {key: CASES[case][1].read[key]})


@pytest.mark.parametrize(("case", "key"), [(c, k) for c in CASES for k in CASES[c][1].refused])
def test_a_setting_that_is_not_supported_is_refused_by_name(case: str, key: str) -> None:
    family, known = CASES[case]
    with pytest.raises(UserError, match=key):
        ours(family, PREPROCESSORS[family] | {key: known.refused[key]}, NOISE)


@pytest.mark.parametrize("case", CASES)
def test_settings_that_are_ignored_change_no_pixel_in_transformers(case: str) -> None:
    assert_equal_pixels(case, CASES[case][1].inert)


@pytest.mark.parametrize("family", ["gemma3", "internvl"])
def test_sizes_by_the_shortest_edge_are_refused(family: str) -> None:
    size = {"height": 32, "width": 32, "shortest_edge": 16}
    with pytest.raises(UserError, match=r"size\.shortest_edge is 16, but it is not supported"):
        ours(family, PREPROCESSORS[family] | {"size": size}, NOISE)


# Qwen's limits on an image's area have several spellings.
AREAS: Mapping[str, Json] = {
    "size": {"size": {"shortest_edge": 3000, "longest_edge": 3600}},
    "size, and one of the others": {
        "size": {"shortest_edge": 3000, "longest_edge": 9999},
        "max_pixels": 3600,
    },
    "both": {
        "size": {"shortest_edge": 1, "longest_edge": 9999},
        "min_pixels": 3000,
        "max_pixels": 3600,
    },
    "other keys of size": {
        "size": {"min_pixels": 1, "max_pixels": 9999},
        "min_pixels": 3000,
        "max_pixels": 3600,
    },
    "nothing": {},
}


@pytest.mark.parametrize("area", AREAS)
def test_limits_on_an_area_are_transformers(area: str) -> None:
    settings = {k: v for k, v in PREPROCESSORS["qwen2_5_vl"].items() if not k.endswith("pixels")}
    settings |= AREAS[area]
    given = {k: v for k, v in settings.items() if k != "image_processor_type"}
    wanted = Qwen2VLImageProcessorPil(**given)(NOISE, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(ours("qwen2_5_vl", settings, NOISE), wanted, rtol=0, atol=1e-5)


def test_a_size_without_its_two_limits_is_refused() -> None:
    settings = {"size": {"min_pixels": 3000, "max_pixels": 3600}, "patch_size": 4}
    with pytest.raises(UserError, match=r"size\.shortest_edge is missing"):
        ours("qwen2_5_vl", settings, NOISE)
