"""A GGUF decoder with the ONNX vision tower gives the reference's answers."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import hf_model, tiny_artifact, tiny_model

from export.checkpoint.registry import open_model
from export.model import Model
from export.modeling.vlm import COMPONENTS
from export.quantize.recipe import RECIPES
from export.targets import TARGETS
from runtimes import RUNTIMES
from runtimes.llama_cpp.session import LlamaBackend
from runtimes.onnxruntime.backend import OnnxBackend
from runtimes.prepare.image import pixels
from runtimes.proof.ladder import prove

pytest.importorskip("llama_cpp")

IMAGE = Image.effect_mandelbrot((50, 30), (-2, -1.5, 1, 1.5), 100).convert("RGB")


def model_of(case: str) -> Model:
    return open_model(case) if case == "tiny-smolvlm" else tiny_model(hf_model(case))


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("tiny-smolvlm", "onnx-vision"),
        ("tiny-qwen2.5-vl", "onnx-vision"),
        ("tiny-gemma3", "onnx-vision"),
        ("tiny-moondream", "onnx-vision"),
        ("gemma-3-270m", "native"),
    ],
)
def test_default_layout_is_the_one_with_the_faster_tower(name: str, layout: str) -> None:
    weights = "synthetic" if layout == "native" else None
    assert TARGETS["gguf"].layout_for(open_model(name, weights=weights).vlm) == layout


@pytest.mark.parametrize("recipe", RECIPES)
def test_onnx_vision_layout_has_the_onnx_targets_tower(recipe: str, tmp_path: Path) -> None:
    model = model_of("grouped heads")
    images = (pixels(IMAGE, model.image),)
    found = []
    for target, layout, backend in (
        ("gguf", "onnx-vision", lambda artifact: LlamaBackend(artifact, 1, 256)),
        ("onnx", "native", lambda artifact: OnnxBackend(artifact, 1, 256)),
    ):
        folder = tmp_path / target
        folder.mkdir()
        opened = backend(tiny_artifact(model, target, recipe, folder, layout))
        found.append(opened.encode(images))
        opened.close()
    np.testing.assert_array_equal(*found)


# Trained weights, and random ones, whose best two tokens can be too close for half precision.
@pytest.mark.parametrize(
    "case", ["tiny-smolvlm", "grouped heads", "scale 3, positions divided by 4", "narrow rows"]
)
def test_half_precision_answers_equal_the_reference(case: str, tmp_path: Path) -> None:
    model = model_of(case)
    proof = prove(model, tiny_artifact(model, "gguf", "fp16", tmp_path, "onnx-vision"), threads=1)
    assert proof.passed is True
    assert proof.checks.logits.mean_kld <= 1e-4
    if case in ("tiny-smolvlm", "grouped heads"):
        assert proof.checks.greedy.equal == proof.checks.greedy.of > 0


def test_written_files_are_listed_by_component(tmp_path: Path) -> None:
    model = model_of("grouped heads")
    target = TARGETS["gguf"]
    written = target.write(model, RECIPES["int4"], tmp_path, "onnx-vision")
    (limit,) = written.details.limits
    assert limit.endswith("export with --layout native for llama.cpp's own mmproj file")
    assert written.components == {
        "decoder": ("tiny-Q4_0.gguf",),
        "vision": (
            "vision_encoder.onnx",
            "vision_encoder.onnx_data",
            "vision_encoder_signed.onnx",
        ),
    }
    parts = written.quantization.components
    assert set(parts) == set(COMPONENTS) - {"region"}
    total = sum(np.prod(shape) for shape in model.weights.shapes().values())
    assert sum(share.parameters for share in parts.values()) == total
    assert sum(written.quantization.types.values()) == total
    assert not any(f.tensor.startswith("v.") for f in written.quantization.fallbacks)
    assert "--layout native" in written.details.limits[0]


def test_missing_library_of_a_layout_names_the_extra_to_install() -> None:
    runtime = RUNTIMES["llama_cpp"]
    assert runtime.unavailable("onnx-vision") is None
    needs = {"onnx-vision": ("not_there",)}
    lacking = type(runtime)(runtime.module, runtime.targets, runtime.devices, imports_for=needs)
    assert lacking.unavailable("native") is None
    assert "not_there is not installed" in str(lacking.unavailable("onnx-vision"))
