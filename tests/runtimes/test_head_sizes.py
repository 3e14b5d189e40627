"""Attention heads of any size that a runtime takes compute what transformers computes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_models import hf_model, tiny_artifact, tiny_model
from tiny_moondream import Seeded, tiny_moondream
from transformers_answers import logits_of

from export.errors import UserError
from export.model import Model
from export.onnx.write import sizes
from export.quantize.recipe import RECIPES
from runtimes import RUNTIMES
from runtimes.base import Request, Session
from runtimes.prepare.request import preparer_of

# Case -> text_config's changes. GroupQueryAttention rotates none of these heads itself.
HEADS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "8": ("grouped heads", {"head_dim": 8}),
    "24": ("grouped heads", {"head_dim": 24}),
    "40, each size of window": ("named layer types", {"head_dim": 40, "query_pre_attn_scalar": 40}),
    "8, three axes": (
        "windows of 2 x 2 squares",
        {
            "num_attention_heads": 8,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2],
            },
        },
    ),
    "8, with biases": ("a class token and layer scales", {"num_attention_heads": 8}),
}  # fmt: skip
# Target, recipe, layout, runtime -> largest error of the logits by the largest logit; the cache of
# layout cuda and of llama.cpp is float16. int4 rounds random weights: only a wrong kernel is worse.
RUNS: Mapping[tuple[str, str, str, str], float] = {
    ("onnx", "fp32", "native", "onnxruntime"): 1e-4,
    ("onnx", "int4", "native", "onnxruntime"): 0.8,
    ("onnx", "fp16", "cuda", "onnxruntime"): 5e-3,
    ("gguf", "fp32", "onnx-vision", "llama_cpp"): 1e-2,
}
IMAGE = Image.effect_mandelbrot((50, 30), (-2, -1.5, 1, 1.5), 100)
REQUEST = Request("what is it?", (IMAGE,), answer=(5, 44, 300, 7), arrays=True)


def logits(session: Session, request: Request) -> np.ndarray:
    events = session.generate(request)
    return np.stack([event.logits for event in events if event.logits is not None])


def found(model: Model, run: tuple[str, str, str, str], folder: Path, request: Request) -> Any:
    target, recipe, layout, runtime = run
    folder = folder / f"{target}-{recipe}-{layout}"
    folder.mkdir()
    artifact = tiny_artifact(model, target, recipe, folder, layout)
    return logits(RUNTIMES[runtime].open_session(artifact, threads=1), request)


@pytest.mark.parametrize("heads", HEADS)
def test_logits_equal_transformers(heads: str, tmp_path: Path) -> None:
    case, changes = HEADS[heads]
    hf = hf_model(case, **changes)
    model = tiny_model(hf)
    prepared = preparer_of(model)(REQUEST)
    ids = np.array([*prepared.ids, *REQUEST.answer], np.int64)
    wanted = logits_of(hf, model, ids, prepared.images)[len(prepared.ids) - 1 : -1]
    for run, bound in RUNS.items():
        error = np.abs(found(model, run, tmp_path, REQUEST) - wanted).max()
        assert error <= bound * np.abs(wanted).max(), run


@pytest.mark.parametrize("layout", ["native", "cuda"])
@pytest.mark.parametrize("size", [8, 16])
def test_heads_that_rotate_in_part_equal_the_reference(
    size: int, layout: str, tmp_path: Path
) -> None:
    made = tiny_moondream("legacy")
    heads = made.vlm.text.hidden // size
    text = replace(made.vlm.text, heads=heads, kv_heads=heads, head_dim=size, rope_dims=size // 2)
    vlm = replace(made.vlm, text=text)
    model = replace(made, vlm=vlm, weights=Seeded(vlm))
    wanted = logits(RUNTIMES["reference"].open_session(model, threads=1), REQUEST)
    recipe = "fp16" if layout == "cuda" else "fp32"
    run = ("onnx", recipe, layout, "onnxruntime")
    error = np.abs(found(model, run, tmp_path, REQUEST) - wanted).max()
    assert error <= RUNS[run] * np.abs(wanted).max()


def with_heads(size: int) -> Model:
    return tiny_model(hf_model("grouped heads", head_dim=size))


@pytest.mark.parametrize("size", [2, 12])
def test_heads_that_onnx_runtime_cannot_take_are_refused_before_writing(
    size: int, tmp_path: Path
) -> None:
    model = with_heads(size)
    for layout in ("native", "cuda", "transformers.js"):
        with pytest.raises(UserError, match=f"head_dim {size} is not a multiple of 8.*gguf"):
            tiny_artifact(model, "onnx", "int8", tmp_path, layout)
        with pytest.raises(UserError, match="is not a multiple of 8"):
            sizes(model, RECIPES["int8"], layout)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [2, 12])
def test_llama_cpp_takes_them(size: int, tmp_path: Path) -> None:
    model = with_heads(size)
    request = replace(REQUEST, images=())
    wanted = logits(RUNTIMES["reference"].open_session(model, threads=1), request)
    run = ("gguf", "fp32", "native", "llama_cpp")
    error = np.abs(found(model, run, tmp_path, request) - wanted).max()
    assert error <= 1e-2 * np.abs(wanted).max()
