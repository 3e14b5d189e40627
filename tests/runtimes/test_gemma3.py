"""Gemma 3: preprocessing and answers equal those of transformers' processor and model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_models import (
    GEMMA3_TEXT,
    IMAGE_TOKEN,
    FromTorch,
    hf_model,
    tiny_artifact,
    tiny_model,
)
from transformers import AutoTokenizer, Gemma3Processor, PreTrainedModel
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from export.__main__ import main
from export.arrays import IntArray
from export.artifact import load_artifact
from export.checkpoint import check
from export.checkpoint.registry import open_model
from export.errors import UserError
from export.families.gemma3 import GEMMA3
from export.families.section import Section
from export.images import Stretch
from export.model import Model
from export.modeling.vlm import Vlm
from runtimes import RUNTIMES
from runtimes.base import Request, Session
from runtimes.onnxruntime.session import open_session
from runtimes.prepare.image import pixels, rgb
from runtimes.prepare.request import Preparer
from runtimes.proof.ladder import prove
from runtimes.session.images import image_ids

CASE = "five local layers to a global one"
CHAT = (  # of google/gemma-3-4b-it, without system turns and their prefix
    "{{ bos_token }}{%- for message in messages -%}"
    "{{ '<start_of_turn>' + message['role'] + '\n' }}"
    "{%- for item in message['content'] -%}{%- if item['type'] == 'image' -%}"
    "{{ '<start_of_image>' }}{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}"
    "{%- endif -%}{%- endfor -%}{{ '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{'<start_of_turn>model\n'}}{%- endif -%}"
)
TOKENS = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
}


@pytest.fixture(scope="module")
def hf() -> PreTrainedModel:
    return hf_model(CASE)


@pytest.fixture(scope="module")
def model(hf: PreTrainedModel) -> Model:
    return tiny_model(hf)


@pytest.fixture(scope="module")
def processor(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Gemma3Processor:
    folder = tmp_path_factory.mktemp("tokenizer")
    for name, content in model.files.items():
        (folder / name).write_bytes(content)
    edge = model.vlm.vision.tower.image_size
    image_processor = Gemma3ImageProcessorPil(
        size={"height": edge, "width": edge}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return Gemma3Processor(
        image_processor,
        AutoTokenizer.from_pretrained(folder, extra_special_tokens=TOKENS),
        chat_template=CHAT,
        image_seq_length=model.vlm.vision.tokens_per_tile,
    )


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 7919 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


IMAGES = {
    "no image": (),
    "a wide one": (noise(120, 31),),
    "one of the tower's size": (noise(48, 48),),
    "two": (noise(7, 90), noise(300, 200)),
    "one pixel, and a grey one": (noise(1, 1), noise(50, 40).convert("L")),
}
QUESTIONS = (
    "What is in this image?",
    "",
    " leading and trailing \n",
    "line\n\n2 lines\n\n\n3",
    "Wie viele Äpfel? 漢字 🎈 עברית \u00a0",
    "a  3, 1234.5 and {question} {images} %s {0} </s>",
)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("images", IMAGES.values(), ids=IMAGES)
def test_ids_and_pixels_equal_the_processor(images, question, processor, model) -> None:
    content = [{"type": "image"}] * len(images) + [{"type": "text", "text": question}]
    theirs = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    theirs = processor(
        text=theirs,
        images=[[image.convert("RGB") for image in images]] if images else None,
        add_special_tokens=False,
        return_tensors="np",
    )
    ours = preparer(model)(Request(question, images))
    np.testing.assert_array_equal(ours.ids, theirs["input_ids"][0])
    if images:
        values = np.concatenate([one.values for one in ours.images])
        np.testing.assert_array_equal(values, theirs["pixel_values"])


def preparer(model: Model) -> Preparer:
    tokenizer = model.files["tokenizer.json"]
    return Preparer(model.image, model.prompt, tokenizer, model.vlm.image_token_id)


@pytest.mark.parametrize("size", [(896, 896), (1200, 7), (3, 2000), (640, 480)])
def test_real_size_is_resized_as_by_the_processor(size: tuple[int, int]) -> None:
    model = open_model("gemma-3-4b", weights="synthetic")
    config = json.loads(model.files["preprocessor_config.json"])
    assert_pixels_equal(noise(*size), model.image, Gemma3ImageProcessorPil(**config))


@pytest.mark.parametrize("height", [1, 2, 55, 56, 57, 199])
@pytest.mark.parametrize("width", [1, 3, 56, 113, 640])
def test_any_size_is_resized_as_by_the_processor(width: int, height: int, model: Model) -> None:
    processor = Gemma3ImageProcessorPil(size={"height": 56, "width": 56})
    assert_pixels_equal(noise(width, height), replace(model.image, size=56), processor)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_image_of_any_mode_is_resized_as_by_the_processor(mode: str, model: Model) -> None:
    processor = Gemma3ImageProcessorPil(size={"height": 56, "width": 56})
    image = noise(70, 40)
    if mode.endswith("A"):
        image.putalpha(noise(70, 40).convert("L"))
    image = image.convert(mode)
    assert_pixels_equal(image, replace(model.image, size=56), processor)


def assert_pixels_equal(image: Image.Image, recipe: Stretch, processor: Any) -> None:
    theirs = processor(image, do_convert_rgb=True, return_tensors="np")
    np.testing.assert_array_equal(pixels(rgb(image), recipe).values, theirs["pixel_values"])


def test_prompt_of_one_image_is_written_out(model: Model) -> None:
    """The newline after `user` and the blank line before the image are one token, \\n\\n\\n."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(model.files["tokenizer.json"].decode())
    ids = preparer(model)(Request(" the image ", (noise(9, 9),))).ids.tolist()
    soft = model.vlm.vision.tokens_per_tile * ["<image_soft_token>"]
    assert [tokenizer.id_to_token(number) for number in ids] == [
        *("<bos>", "<start_of_turn>", "user", "\n\n\n"),
        *("<start_of_image>", *soft, "<end_of_image>"),
        *("\n\n", *"the", "▁image", "<end_of_turn>", "\n", "<start_of_turn>", "model", "\n"),
    ]


def tokens(session: Session, request: Request) -> list[int]:
    return [event.token for event in session.generate(request) if event.token is not None]


def saved(hf: PreTrainedModel, processor: Gemma3Processor, folder: Path) -> Path:
    hf.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def as_on_the_hub(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    values = {}
    for name, value in load_file(path).items():
        tower, beginning, part = name.rpartition("vision_tower.")
        values[f"{tower}{beginning}vision_model.{part}" if beginning else name] = value
    assert "vision_tower.vision_model.post_layernorm.weight" in values
    assert "language_model.model.layers.0.self_attn.q_norm.weight" in values
    save_file(values, path)


@pytest.mark.parametrize("change", [lambda folder: None, as_on_the_hub], ids=["saved", "hub"])
def test_artifact_of_a_checkpoint_passes_the_proof(change, hf, processor, tmp_path) -> None:
    folder = saved(hf, processor, tmp_path / "m")
    change(folder)
    model, twin = open_model(str(folder)), FromTorch(hf)
    for name in twin.shapes():
        np.testing.assert_array_equal(model.weights.read(name), twin.read(name))
    name = "mm.input_projection.weight"
    np.testing.assert_array_equal(model.weights.read(name, 3, 9), twin.read(name)[3:9])
    (tmp_path / "a").mkdir()
    proof = prove(model, tiny_artifact(model, "onnx", "fp32", tmp_path / "a"), threads=1)
    assert proof.failures == ()
    assert proof.checks.preprocessing.equal is True
    assert proof.checks.logits.mean_kld < 1e-9


def test_tensor_under_two_names_is_refused(hf, processor, tmp_path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = saved(hf, processor, tmp_path / "m")
    values = load_file(folder / "model.safetensors")
    name = "vision_tower.post_layernorm.weight"
    other = name.replace("tower.", "tower.vision_model.")
    save_file(values | {other: values[name]}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"two tensors are vision_tower\.vision_model\.post_layer"):
        open_model(str(folder))


def test_exported_artifact_can_be_opened(hf, processor, tmp_path, capsys) -> None:
    folder, out = saved(hf, processor, tmp_path / "m"), tmp_path / "out"
    arguments = [str(folder), "--target", "onnx", "--recipe", "int8", "--out", str(out)]
    assert main(arguments) == 0
    artifact, model = load_artifact(out), open_model(str(folder))
    assert (artifact.manifest.vlm, artifact.manifest.image) == (model.vlm, model.image)
    assert artifact.manifest.proof.passed is True
    session = RUNTIMES["onnxruntime"].open_session(artifact, threads=1)
    assert len(tokens(session, Request("what?", IMAGES["two"], max_tokens=3))) in (1, 2, 3)


def test_context_beyond_the_models_is_refused(model: Model, tmp_path: Path) -> None:
    artifact = tiny_artifact(model, "onnx", "fp32", tmp_path)
    with pytest.raises(UserError, match=r"a context of 257 was asked for, but .* 256 positions"):
        open_session(artifact, threads=1, context=257)


def test_other_attention_scale_is_refused_for_gguf(hf, processor, tmp_path, capsys) -> None:
    folder, out = saved(hf, processor, tmp_path / "m"), tmp_path / "out"
    arguments = [str(folder), "--target", "gguf", "--recipe", "fp16", "--out", str(out)]
    capsys.readouterr()  # of transformers, which has just saved
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        "error: config.json: query_pre_attn_scalar 24 is not head_dim 16, which llama.cpp uses in "
        "its place; export for the onnx target instead\n"
    )
    assert not out.exists()


NUMBERED = {
    "text": ((3, 4), 0, 0, [0, 0]),
    "two images": ((3, 9, 9, 4, 9), 3, 0, [0, 2, 2, 0, 5]),
    "an image at the very start": ((9, 9, 3), 2, 0, [1, 1, 0]),
    "more image tokens than features": ((9, 3, 9), 1, 0, [1, 0, 0]),
    "the rest of an image": ((9, 9, 3, 9), 3, 2, [0, 2, 2, 2, 0, 6]),
}


@pytest.mark.parametrize(("ids", "features", "past", "wanted"), NUMBERED.values(), ids=NUMBERED)
def test_neighbouring_image_tokens_share_an_image_id(ids, features, past, wanted) -> None:
    numbers: IntArray = np.full(8, 7, np.int64)
    numbers[:2] = (0, 2)
    rows = np.zeros((features, 4), np.float32) if features else None
    found = image_ids(numbers, np.array(ids, np.int64), rows, past, 9)
    assert found.tolist() == wanted


PREPROCESSORS = {
    "another size": {"size": {"height": 48, "width": 32}},
    "a longest edge": {"size": {"longest_edge": 48}},
    "pan and scan": {"do_pan_and_scan": True},
    "another filter": {"resample": 3},
    "two means": {"image_mean": [0.5, 0.5]},
}


@pytest.mark.parametrize("config", PREPROCESSORS.values(), ids=PREPROCESSORS)
def test_preprocessor_that_no_recipe_can_express_is_refused(config, model) -> None:
    with pytest.raises(UserError, match=r"^preprocessor_config\.json: "):
        GEMMA3.image(model.vlm, Section(config, "preprocessor_config.json"))


CONFIGS = {
    "softcapping": {"final_logit_softcapping": 30.0},
    "biases": {"attention_bias": True},
    "another rope": {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
    "layer types that are too few": {"layer_types": ["full_attention"]},
    "layer types unheard of": {"num_hidden_layers": 1, "layer_types": ["chunked_attention"]},
}


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS)
def test_config_that_the_family_cannot_express_is_refused(text) -> None:
    with pytest.raises(UserError, match=r"^config\.json: "):
        GEMMA3.read(Section({"text_config": text}, "config.json"))


NUMBERS = {
    "no window": {"sliding_window": 0},
    "a window of nothing": {"sliding_window": None},
    "a negative scale": {"query_pre_attn_scalar": -4},
    "a negative width": {"hidden_size": -64},
    "no pattern": {"sliding_window_pattern": 0},
    "a factor below one": {"rope_scaling": {"rope_type": "linear", "factor": 0.5}},
    "a local rope of nothing": {"rope_local_base_freq": 0},
    "a window as text": {"sliding_window": "12"},
}


def numbers_of(changes: dict[str, object]) -> Vlm:
    """A tower of 14 x 14 patches pooled to 7 x 7, and the tiny text model with changes."""
    text = GEMMA3_TEXT | changes
    config = {"vision_config": {}, "text_config": text, "mm_tokens_per_image": 49}
    config |= {"image_token_index": IMAGE_TOKEN, "model_type": "gemma3"}
    return check.numbers(GEMMA3.read(Section(config, "config.json")), "config.json")


@pytest.mark.parametrize("changes", NUMBERS.values(), ids=NUMBERS)
def test_inconsistent_numbers_are_refused_in_one_line(changes) -> None:
    assert numbers_of({}).require_vision().tokens_per_tile == 49
    with pytest.raises(UserError) as caught:
        numbers_of(changes)
    assert "\n" not in str(caught.value)


def test_missing_config_values_are_the_classes_defaults() -> None:
    text = open_model("gemma-3-4b", weights="synthetic").vlm.text
    assert (text.heads, text.kv_heads, text.head_dim, text.vocab) == (8, 4, 256, 262208)
    assert (text.rope(5).theta, text.rope(5).factor, text.window(5)) == (1e6, 8.0, None)
    assert (text.rope(4).theta, text.rope(4).factor, text.window(4)) == (1e4, 1.0, 1024)
    assert [i for i in range(text.layers) if text.window(i) is None] == [5, 11, 17, 23, 29]
    assert (text.attention_scale, text.embedding_scale) == (256**-0.5, 2560**0.5)
