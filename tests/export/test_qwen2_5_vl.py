"""Qwen2.5-VL: torch and ONNX Runtime against transformers, on tiny models with random weights."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from PIL import Image
from tiny_models import IMAGE_TOKEN, QWEN_CASES, hf_model, tiny_artifact, tiny_model
from transformers import PreTrainedModel

from export.arrays import FloatArray, IntArray
from export.images.pixels import Pixels
from export.model import Model
from runtimes.onnxruntime.backend import OnnxBackend
from runtimes.prepare.image import pixels
from runtimes.reference import TorchBackend, resident
from runtimes.session.backend import Backend, Extend
from runtimes.session.positions import prompt_positions

CASES = list(QWEN_CASES)
SIZES = {
    "no image": [],
    "one image": [(40, 40)],
    "a wide one": [(90, 9)],
    "a tall one": [(5, 130)],
    "a tiny one": [(1, 1)],
    "whole windows": [(48, 48)],
    "two images": [(40, 24), (16, 60)],
}


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 7919 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


def asked(model: Model, sizes: list[tuple[int, int]]) -> tuple[IntArray, list[Pixels]]:
    """Prompt ids with an image each, and the images."""
    images = [pixels(noise(*size), model.image) for size in sizes]
    ids = [1, 5]
    for image in images:
        assert image.token_grid is not None
        ids += [IMAGE_TOKEN - 3] + [IMAGE_TOKEN] * (image.token_grid[0] * image.token_grid[1])
        ids += [IMAGE_TOKEN - 2, 9]
    return np.array([*ids, 7, 11, 13]), images


def theirs(hf: PreTrainedModel, ids: IntArray, images: list[Pixels]) -> FloatArray:
    """Logits of every position [n, vocab]."""
    inputs = {"input_ids": torch.tensor(ids[None])}
    if images:
        grids = [image.token_grid for image in images if image.token_grid]
        inputs["pixel_values"] = torch.from_numpy(np.concatenate([i.values for i in images]))
        inputs["image_grid_thw"] = torch.tensor([[1, 2 * rows, 2 * cols] for rows, cols in grids])
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == IMAGE_TOKEN).int()
    logits: FloatArray = hf(**inputs).logits[0].numpy()
    return logits


def positions(ids: IntArray, images: list[Pixels]) -> IntArray:
    grids = [image.token_grid for image in images if image.token_grid]
    return prompt_positions(ids, IMAGE_TOKEN, grids)


def error(found: FloatArray, wanted: FloatArray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.fixture(scope="module", params=CASES)
def hf(request: pytest.FixtureRequest) -> PreTrainedModel:
    return hf_model(request.param)


def backends(hf: PreTrainedModel, folder: Path) -> list[Backend]:
    model = tiny_model(hf)
    artifact = tiny_artifact(model, "onnx", "fp32", folder)
    return [
        TorchBackend(model, resident(model.weights)),
        OnnxBackend(artifact, threads=1, context=256),
    ]


@pytest.mark.parametrize("case", SIZES)
def test_logits_are_those_of_transformers(case: str, hf: PreTrainedModel, tmp_path: Path) -> None:
    ids, images = asked(tiny_model(hf), SIZES[case])
    wanted = theirs(hf, ids, images)
    for backend in backends(hf, tmp_path):
        features = backend.encode(tuple(images)) if images else None
        found = backend.extend(Extend(ids, features, 0, positions(ids, images)))
        assert error(found, wanted[-1]) <= 1e-5


def test_features_are_those_of_transformers(hf: PreTrainedModel, tmp_path: Path) -> None:
    _, images = asked(tiny_model(hf), [size for sizes in SIZES.values() for size in sizes])
    for image in images:
        assert image.token_grid is not None
        grid = torch.tensor([[1, 2 * image.token_grid[0], 2 * image.token_grid[1]]])
        wanted = hf.model.visual(torch.from_numpy(image.values), grid).pooler_output.numpy()
        for backend in backends(hf, tmp_path):
            assert error(backend.encode((image,)), wanted) <= 1e-5


def test_positions_are_those_of_transformers(hf: PreTrainedModel) -> None:
    for sizes in SIZES.values():
        ids, images = asked(tiny_model(hf), sizes)
        tensor = torch.tensor(ids[None])
        grids = [image.token_grid for image in images if image.token_grid]
        grid = [[1, 2 * rows, 2 * cols] for rows, cols in grids]
        wanted, _ = hf.model.get_rope_index(
            tensor,
            image_grid_thw=torch.tensor(grid) if grid else None,
            mm_token_type_ids=(tensor == IMAGE_TOKEN).int(),
        )
        np.testing.assert_array_equal(positions(ids, images), wanted[:, 0].numpy())


def test_steps_equal_one_long_prefill(hf: PreTrainedModel, tmp_path: Path) -> None:
    ids, images = asked(tiny_model(hf), SIZES["two images"])
    wanted, where = theirs(hf, ids, images), positions(ids, images)
    for backend in backends(hf, tmp_path):
        features = backend.encode(tuple(images))
        parts = [0, 6, 20, len(ids) - 2, len(ids) - 1, len(ids)]
        for start, end in pairwise(parts):
            rest = features[np.count_nonzero(ids[:start] == IMAGE_TOKEN) :]
            found = backend.extend(Extend(ids[start:end], rest, start, where[:, start:end]))
            assert error(found, wanted[end - 1]) <= 1e-5


@pytest.mark.parametrize("recipe", ["fp16", "int8", "int4"])
def test_rounded_weights_stay_near(recipe: str, hf: PreTrainedModel, tmp_path: Path) -> None:
    ids, images = asked(tiny_model(hf), SIZES["two images"])
    wanted = theirs(hf, ids, images)[-1]
    artifact = tiny_artifact(tiny_model(hf), "onnx", recipe, tmp_path)
    backend = OnnxBackend(artifact, threads=1, context=256)
    features = backend.encode(tuple(images))
    found = backend.extend(Extend(ids, features, 0, positions(ids, images)))
    assert error(found, wanted) <= {"fp16": 2e-3, "int8": 0.06, "int4": 0.6}[recipe]


def test_graphs_are_sound_and_fused(hf: PreTrainedModel, tmp_path: Path) -> None:
    tiny_artifact(tiny_model(hf), "onnx", "int4", tmp_path)
    for path in tmp_path.glob("*.onnx"):
        kinds = {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
        assert not kinds & {"Identity", "Softmax", "Loop", "If", "NonZero"}
        ort.InferenceSession(path, providers=["CPUExecutionProvider"])
