"""onnxruntime-genai opens artifacts of its layout and answers as the checkpoint does."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clients.conftest import Export, changed, expect_genai, greedy
from export.artifact import Artifact
from export.checkpoint.registry import open_model
from export.model import Model
from runtimes.base import Request
from runtimes.prepare.request import preparer_of
from runtimes.proof.probes import probes

# Pictures in the size that each tower sees; what stands for a picture before its processor.
EDGES = {"tiny-gemma3": 64, "tiny-qwen2.5-vl": 112}
MARKS = {"gemma3": "<start_of_image>", "qwen2_5_vl": "<|vision_start|><|image_pad|><|vision_end|>"}
MOST_TOKENS = 8
Save = Callable[[Image.Image], Path]


@pytest.fixture(scope="session")
def og() -> Any:
    expect_genai()
    import onnxruntime_genai

    return onnxruntime_genai


def prompt(model: Model, request: Request) -> str:
    """What a user hands to its processor: the chat template's text."""
    images = MARKS[model.vlm.family] * len(request.images)
    text = model.prompt.with_images if request.images else model.prompt.text_only
    return text.replace("{images}", images).replace("{question}", request.question)


def processed(og: Any, model: Any, text: str, files: list[Path]) -> Any:
    images = og.Images.open(*map(str, files)) if files else None
    return model.create_multimodal_processor()(text, images=images)


def fed(og: Any, model: Model, request: Request) -> Any:
    """The same inputs, prepared by us."""
    prepared = preparer_of(model)(request)
    named = og.NamedTensors()
    named["input_ids"] = prepared.ids[None].astype(np.int32)
    if request.images:
        named["pixel_values"] = np.concatenate([image.values for image in prepared.images])
        named["num_image_tokens"] = np.array([model.vlm.vision.tokens_per_tile], np.int64)
    return named


def answered(og: Any, model: Any, inputs: Any, max_length: int = 512) -> list[int]:
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(max_length=max_length)
    generator = og.Generator(model, parameters)
    generator.set_inputs(inputs)
    tokens: list[int] = []
    while not generator.is_done() and len(tokens) < MOST_TOKENS:
        generator.generate_next_token()
        tokens.append(int(generator.get_next_tokens()[0]))
    return tokens


def gemma_of_256_tokens(folder: Path) -> Model:
    """tiny-gemma3 with random weights, as many tokens an image as released models, and longer."""
    checkpoint = open_model("tiny-gemma3").folder
    assert checkpoint is not None
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    sizes = {"vision_config": {"image_size": 128}, "text_config": {"max_position_embeddings": 1024}}
    changed(folder / "config.json", {"mm_tokens_per_image": 256, **sizes})
    changed(folder / "preprocessor_config.json", {"size": {"height": 128, "width": 128}})
    return open_model(str(folder), weights="synthetic")


@pytest.mark.parametrize("recipe", ["int8", "int4"])
@pytest.mark.parametrize("probe", [0, 1])
def test_qwen_answers_as_the_reference_does(
    probe: int, recipe: str, og: Any, exported: Export, picture_file: Save
) -> None:
    model = open_model("tiny-qwen2.5-vl")
    asked = probes(EDGES[model.name])[probe]
    request = Request(asked.question, asked.images, max_tokens=MOST_TOKENS)
    opened = og.Model(str(exported(model, recipe, "genai").path))
    files = [picture_file(image) for image in request.images]
    inputs = processed(og, opened, prompt(model, request), files)
    assert answered(og, opened, inputs) == greedy("reference", model, request)


# Their processor takes 256 tokens for every image of Gemma 3 (a constant of its source), this model
# has 16: so pixels and ids are handed over ready.
@pytest.mark.parametrize("recipe", ["int8", "int4"])
@pytest.mark.parametrize("probe", [0, 1])
def test_gemma_answers_prepared_inputs_as_the_reference_does(
    probe: int, recipe: str, og: Any, exported: Export
) -> None:
    model = open_model("tiny-gemma3")
    asked = probes(EDGES[model.name])[probe]
    request = Request(asked.question, asked.images, max_tokens=MOST_TOKENS)
    opened = og.Model(str(exported(model, recipe, "genai").path))
    assert answered(og, opened, fed(og, model, request)) == greedy("reference", model, request)


def test_gemma_of_256_tokens_an_image_goes_through_their_own_processor(
    og: Any, tmp_path: Path, picture_file: Save, exported: Export
) -> None:
    model = gemma_of_256_tokens(tmp_path / "gemma-of-256")
    picture = probes(96)[0].images[0]
    request = Request("what is it?", (picture, picture.rotate(90)), max_tokens=MOST_TOKENS)
    artifact = exported(model, "fp32", "genai")
    opened = og.Model(str(artifact.path))
    files = [picture_file(image) for image in request.images]
    inputs = processed(og, opened, prompt(model, request), files)
    assert answered(og, opened, inputs, 1024) == greedy("onnxruntime", artifact, request)


@pytest.mark.parametrize("size", [(112, 112), (120, 90), (61, 300), (640, 480), (28, 28)])
def test_qwens_pixels_and_ids_are_those_of_the_model(
    size: tuple[int, int], og: Any, exported: Export, picture_file: Save
) -> None:
    model = open_model("tiny-qwen2.5-vl")
    request = Request("what is it?", (probes(512)[0].images[0].resize(size),))
    opened = og.Model(str(exported(model, "int4", "genai").path))
    file = picture_file(request.images[0])
    inputs = processed(og, opened, prompt(model, request), [file])
    wanted = preparer_of(model)(request)
    assert inputs["input_ids"].as_numpy()[0].tolist() == wanted.ids.tolist()
    pixels = inputs["pixel_values"].as_numpy()
    assert np.abs(pixels - wanted.images[0].values).max() < 1e-5


@pytest.mark.parametrize("name", EDGES)
def test_a_prompt_without_a_picture_is_answered(name: str, og: Any, exported: Export) -> None:
    model = open_model(name)
    request = Request("what color is the sky?", max_tokens=MOST_TOKENS)
    artifact = exported(model, "int8", "genai")
    opened = og.Model(str(artifact.path))
    inputs = processed(og, opened, prompt(model, request), [])
    assert answered(og, opened, inputs) == greedy("onnxruntime", artifact, request)


def test_two_pictures_are_answered(og: Any, exported: Export, picture_file: Save) -> None:
    model = open_model("tiny-qwen2.5-vl")
    images = tuple(probe.images[0] for probe in probes(112)[2:4])
    request = Request("what do they show?", images, max_tokens=MOST_TOKENS)
    artifact: Artifact = exported(model, "int8", "genai")
    opened = og.Model(str(artifact.path))
    files = [picture_file(image) for image in images]
    inputs = processed(og, opened, prompt(model, request), files)
    assert answered(og, opened, inputs) == greedy("onnxruntime", artifact, request)
