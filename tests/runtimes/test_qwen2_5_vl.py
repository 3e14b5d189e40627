"""Qwen2.5-VL: preprocessing and answers equal those of transformers.

transformers' processor needs torchvision for videos, so its image processor, tokenizer and chat
template are used on their own.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_models import hf_model, tiny_model
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers_answers import greedy_of

from export.__main__ import main
from export.artifact import load_artifact
from export.checkpoint.registry import open_model
from export.errors import UserError
from export.families.qwen2_5_vl import QWEN2_5_VL
from export.families.section import Section
from export.images import Patches
from runtimes import RUNTIMES
from runtimes.base import Request, Session
from runtimes.prepare.image import pixels, rgb
from runtimes.prepare.request import preparer_of

CASE = "windows of 2 x 2 squares"
TWIN = Path(__file__).parents[2] / "models" / "tiny-qwen2.5-vl"
SIZES = {  # width, height
    "one pixel": (1, 1),
    "one pixel high": (200, 1),
    "one pixel wide": (1, 200),
    "two pixels": (2, 1),
    "exactly the least": (56, 56),
    "below the least": (55, 56),
    "half of a unit": (70, 98),
    "half of an odd unit": (98, 126),
    "a unit": (28, 28),
    "a unit less": (27, 29),
    "wide": (300, 100),
    "tall": (100, 300),
    "very wide": (1000, 10),
    "very tall": (10, 1000),
    "the longest": (2000, 10),
    "above the most": (900, 700),
    "far above the most": (2400, 1300),
    "above the most, wide": (3000, 60),
    "above the most, tall": (60, 3000),
    "4:3": (160, 120),
    "3:4": (120, 160),
    "16:9": (192, 108),
    "odd": (101, 77),
    "prime": (211, 97),
    "nearly square": (100, 99),
    "golden": (89, 55),
}
RECIPE = Patches(
    patch_size=14,
    merge_size=2,
    temporal_patch_size=2,
    min_pixels=3136,
    max_pixels=200_704,
    tile=448,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    rescale=1 / 255,
)
PROCESSOR = Qwen2VLImageProcessorPil(
    min_pixels=RECIPE.min_pixels,
    max_pixels=RECIPE.max_pixels,
    image_mean=list(RECIPE.mean),
    image_std=list(RECIPE.std),
)


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 7919 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


def assert_equal(image: Image.Image, recipe: Patches, processor: Any) -> None:
    theirs = processor(image, return_tensors="np")
    ours = pixels(rgb(image), recipe)
    assert ours.token_grid is not None
    grid = [[1, *(recipe.merge_size * edge for edge in ours.token_grid)]]
    np.testing.assert_array_equal(grid, theirs["image_grid_thw"])
    np.testing.assert_array_equal(ours.values, theirs["pixel_values"])


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_pixels_equal_the_processor(size: tuple[int, int]) -> None:
    assert_equal(noise(*size), RECIPE, PROCESSOR)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_image_of_any_mode_equals_the_processor(mode: str) -> None:
    image = noise(70, 40)
    if mode.endswith("A"):
        image.putalpha(noise(70, 40).convert("L"))
    assert_equal(image.convert(mode), RECIPE, PROCESSOR)


def test_tile_budget_limits_the_area() -> None:
    width, height = RECIPE.within(1).nearest_size((3000, 2000))
    assert 0.9 * 448**2 < width * height <= 448**2
    assert RECIPE.within(1).nearest_size((30, 20)) == RECIPE.nearest_size((30, 20))


def test_image_of_extreme_aspect_ratio_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="2010 x 10 pixels is over 200 times longer than wide"):
        pixels(noise(2010, 10), RECIPE)


QUESTIONS = ("what color is the shape?", "", " 2 lines\n\nand  é漢🎈 ", "a {question} {images} %s")


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_ids_equal_the_tokenized_chat_template(question: str, count: int) -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(TWIN), open_model(str(TWIN))
    content: list[dict[str, str]] = [{"type": "image"}] * count
    content = [*content, {"type": "text", "text": question}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    images = (noise(64, 64), noise(200, 100))[:count]
    ours = preparer_of(model)(Request(question, images))
    for image in ours.images:
        assert image.token_grid is not None
        text = text.replace("<|image_pad|>", "!" * (image.token_grid[0] * image.token_grid[1]), 1)
    text = text.replace("!", "<|image_pad|>")
    assert ours.ids.tolist() == tokenizer(text)["input_ids"]


def tokens(session: Session, request: Request) -> list[int]:
    return [event.token for event in session.generate(request) if event.token is not None]


Change = Callable[[Path], None]


def save_tokenizer(folder: Path, hf: PreTrainedModel) -> None:
    model = tiny_model(hf)
    for name, content in model.files.items():
        (folder / name).write_bytes(content)
    config = {"min_pixels": 64, "max_pixels": 4096, "patch_size": model.vlm.vision.tower.patch_size}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))


def test_checkpoint_saved_by_transformers_is_exported_and_answers(tmp_path: Path) -> None:
    hf = hf_model(CASE)
    checkpoint = tmp_path / "saved"
    hf.save_pretrained(checkpoint)
    save_tokenizer(checkpoint, hf)
    out = tmp_path / "out"
    order = [str(checkpoint), "--target", "onnx", "--recipe", "fp32", "--out", str(out)]
    assert main(order) == 0
    artifact = load_artifact(out)
    assert artifact.manifest.proof is not None
    assert artifact.manifest.proof.passed is True
    session = RUNTIMES["onnxruntime"].open_session(artifact, threads=1)
    request = Request("what is it?", (noise(40, 24),), max_tokens=8)
    prepared = preparer_of(model := tiny_model(hf))(request)
    wanted = greedy_of(hf, model, prepared.ids, prepared.images, request.max_tokens)
    assert tokens(session, request) == list(wanted)


def test_prompt_is_written_out() -> None:
    model = open_model("qwen2.5-vl-3b", weights="synthetic")
    tokenizer = Tokenizer.from_str(model.files["tokenizer.json"].decode())
    ids = preparer_of(model)(Request("the image", (noise(56, 56),))).ids.tolist()
    assert ids.count(151655) == 4
    found = [tokenizer.id_to_token(number) for number in ids]
    assert found[:3] == ["<|im_start|>", "system", "Ċ"]
    assert found[-5:] == ["<|im_end|>", "Ċ", "<|im_start|>", "assistant", "Ċ"]


BAD = {
    "a sliding window": ({"use_sliding_window": True}, {}, "use_sliding_window is True"),
    "sections of another head": (
        {"rope_scaling": {"type": "mrope", "mrope_section": [1, 2]}},
        {},
        "mrope_section is",
    ),
    "a window of part of a square": ({}, {"window_size": 100}, "window_size 100"),
    "an activation that is not ours": (
        {"hidden_act": "relu"},
        {},
        'hidden_act is "relu"',
    ),
}


@pytest.mark.parametrize(("changes", "vision", "message"), BAD.values(), ids=BAD)
def test_config_that_the_family_cannot_express_is_refused(
    changes: dict[str, Any], vision: dict[str, Any], message: str
) -> None:
    folder = Path(__file__).parents[2] / "models" / "configs" / "qwen2.5-vl-3b"
    config = json.loads((folder / "config.json").read_text()) | changes
    config["vision_config"] = config["vision_config"] | vision
    with pytest.raises(UserError, match=message):
        QWEN2_5_VL.read(Section(config, "config.json"))


def test_preprocessor_with_another_patch_size_is_refused(tmp_path: Path) -> None:
    hf = hf_model(CASE)
    hf.save_pretrained(tmp_path)
    save_tokenizer(tmp_path, hf)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"patch_size": 14}))
    with pytest.raises(UserError, match="patch_size 14"):
        open_model(str(tmp_path))
    assert replace(RECIPE, max_tiles=2).most_tiles == 1
