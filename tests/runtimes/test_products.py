"""Towers take signed weights on CPUs where ONNX Runtime multiplies them without saturating."""

import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from tiny_models import hf_model, tiny_artifact, tiny_model

from runtimes.base import Request
from runtimes.onnxruntime import products, tower
from runtimes.onnxruntime.session import open_session


def test_the_graph_that_asks_is_one_product_of_both_signs() -> None:
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    types = {"a": TensorProto.UINT8, "b": TensorProto.INT8, "y": TensorProto.INT32}
    values = [helper.make_tensor_value_info(name, kind, None) for name, kind in types.items()]
    graph = helper.make_graph([node], "", values[:2], values[2:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    assert onnx.load_from_string(products._PRODUCT) == made


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the CPU's features are read there")
def test_exact_products_agree_with_the_cpus_features() -> None:
    flags = Path("/proc/cpuinfo").read_text()
    if platform.machine() in ("x86_64", "AMD64"):
        has_vnni = any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))
        assert products.signed_is_better() == has_vnni
    else:
        assert not products.signed_is_better()


@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_a_session_takes_the_graph_that_suits_the_cpu(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = tiny_artifact(tiny_model(hf_model("grouped heads")), "onnx", recipe, tmp_path)
    plain, signed = (artifact.file("vision", signed=sign) for sign in (False, True))
    assert (plain.name, signed.name) == ("vision_encoder.onnx", "vision_encoder_signed.onnx")
    image = Image.effect_mandelbrot((50, 30), (-2, -1.5, 1, 1.5), 100)
    asked = Request("what?", (image,), max_tokens=1, arrays=True)
    features = []
    for better in (False, True):
        monkeypatch.setattr(tower, "signed_is_better", lambda better=better: better)
        session = open_session(artifact, threads=1)
        events = [event.features for event in session.generate(asked) if event.kind == "image"]
        features.append(events[0])
    signed.unlink()
    one, other = (np.ravel(rows) for rows in features)
    # Without VNNI a few products saturate: near, but not equal.
    assert one @ other > 0.98 * np.linalg.norm(one) * np.linalg.norm(other)
    with pytest.raises(Exception, match="vision_encoder_signed"):
        open_session(artifact, threads=1)


def test_towers_of_floats_have_one_graph(tmp_path: Path) -> None:
    artifact = tiny_artifact(tiny_model(hf_model("grouped heads")), "onnx", "fp16", tmp_path)
    assert artifact.file("vision", signed=True) == artifact.file("vision")
