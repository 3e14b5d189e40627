"""InternVL3 beside transformers: image tiles, prompt, GGUF, and the parameters of the 1B size.

Logits and tokens of torch and ONNX are in test_exact.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import hf_model, tiny_artifact, tiny_model
from transformers import InternVLConfig, InternVLForConditionalGeneration
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers_answers import greedy_of

from export.errors import UserError
from export.families.internvl import INTERNVL
from export.families.section import Section
from export.images.aspect_tiles import AspectTiles
from export.modeling.vlm import shapes
from export.quantize.recipe import RECIPES
from export.targets import TARGETS
from runtimes import RUNTIMES
from runtimes.base import Request
from runtimes.prepare.image import pixels
from runtimes.prepare.request import preparer_of
from runtimes.proof.ladder import prove

CASE = "a class token and layer scales"
HALF = (0.5, 0.5, 0.5)
RECIPE = AspectTiles(56, 1, 12, HALF, HALF, 1 / 255)
SIZES = (
    (1, 1), (40, 30), (56, 56), (57, 56), (1, 90), (300, 2), (112, 112), (113, 112), (224, 56),
    (640, 480), (480, 640), (523, 448), (1024, 1024), (333, 777), (900, 100), (168, 112),
)  # fmt: skip
ONE_B = {
    "model_type": "internvl",
    "image_token_id": 151667,
    "tie_word_embeddings": False,
    "text_config": {
        "model_type": "qwen2",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151674,
        "rope_theta": 1e6,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
    },
    "vision_config": {"attention_bias": True, "image_size": [448, 448], "patch_size": [14, 14]},
}


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 7919 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


@pytest.mark.parametrize("most", [1, 2, 6, 12])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tiles_equal_the_processors_to_the_bit(size: tuple[int, int], most: int) -> None:
    processor = GotOcr2ImageProcessorPil(
        size={"height": 56, "width": 56},
        crop_to_patches=True,
        max_patches=most,
        image_mean=HALF,
        image_std=HALF,
    )
    theirs = processor(noise(*size), return_tensors="np")["pixel_values"]
    recipe = AspectTiles(56, 1, most, HALF, HALF, 1 / 255)
    ours = pixels(noise(*size), recipe)
    np.testing.assert_array_equal(ours.values, np.asarray(theirs))
    assert ours.tiles <= recipe.most_tiles


@pytest.mark.parametrize("budget", [1, 2, 3, 5, 13, 40])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_budget_of_tiles_is_kept(size: tuple[int, int], budget: int) -> None:
    recipe = RECIPE.within(budget)
    assert pixels(noise(*size), recipe).tiles <= min(budget, 13)
    assert recipe.most_tiles <= budget


def test_prompt_has_as_many_image_tokens_as_there_are_tiles() -> None:
    model = tiny_model(hf_model(CASE))
    preparer = preparer_of(model)
    prepared = preparer(Request("what?", (noise(90, 30), noise(32, 32))))
    first, second = prepared.images
    assert (first.tiles, second.tiles) == (4, 1)
    count = int(np.count_nonzero(prepared.ids == model.vlm.image_token_id))
    assert count == 5 * model.vlm.require_vision().tokens_per_tile
    text = preparer._tokenizer.decode(prepared.ids.tolist(), skip_special_tokens=False)
    marks = text.replace("<IMG_CONTEXT>", "").replace(" ", "")
    assert marks == (
        "<|im_start|>user\n<img></img>\n<img></img>\nwhat?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_gguf_answers_like_transformers(tmp_path: Path) -> None:
    hf = hf_model(CASE)
    model = tiny_model(hf)
    artifact = tiny_artifact(model, "gguf", "fp16", tmp_path, "onnx-vision")
    (limit,) = artifact.manifest.details.limits
    assert "only PocketVLM runs" in limit
    assert "native" not in limit  # which would be refused
    session = RUNTIMES["llama_cpp"].open_session(artifact, threads=1)
    request = Request("what is it?", (noise(90, 30),), max_tokens=12)
    prepared = preparer_of(model)(request)
    wanted = greedy_of(hf, model, prepared.ids, prepared.images, 12)
    found = tuple(e.token for e in session.generate(request) if e.token is not None)
    session.close()
    assert found == wanted


@pytest.mark.parametrize(("target", "layout"), [("onnx", "native"), ("gguf", "onnx-vision")])
def test_export_passes_the_proof(target: str, layout: str, tmp_path: Path) -> None:
    model = tiny_model(hf_model(CASE))
    proof = prove(model, tiny_artifact(model, target, "fp16", tmp_path, layout), threads=1)
    assert proof.passed is True


def test_mmproj_is_refused_with_the_remedy(tmp_path: Path) -> None:
    model = tiny_model(hf_model(CASE))
    with pytest.raises(UserError, match="cannot be written as mmproj; export with --layout onnx"):
        TARGETS["gguf"].write(model, RECIPES["int8"], tmp_path, "native")
    assert list(tmp_path.iterdir()) == []


def test_the_1b_size_has_the_parameters_of_transformers_own_class() -> None:
    vlm = INTERNVL.read(Section(ONE_B, "config.json"))
    assert not [*vlm.problems()]
    with torch.device("meta"):
        config = InternVLConfig(**{k: v for k, v in ONE_B.items() if k != "model_type"})
        theirs = InternVLForConditionalGeneration(config)
    layer_scales = 2 * vlm.require_vision().tower.layers * 1024  # folded into the maps before them
    ours = sum(int(np.prod(shape)) for shape in shapes(vlm).values())
    assert ours + layer_scales == sum(p.numel() for p in theirs.parameters()) == 938_193_024
