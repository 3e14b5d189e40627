"""Recipes under llama.cpp's names give tensors the types and bytes that its own quantizer does."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from llama_cpp_tools import quantize
from tiny_models import hf_model, tiny_model
from tiny_moondream import Seeded, tiny_moondream

from export.arrays import FloatArray
from export.errors import UserError
from export.gguf import ggml
from export.gguf.mixes import MIXES
from export.model import Model
from export.quantize.recipe import KNOWN, MIXTURES, RECIPES
from export.target import Written
from export.targets import TARGETS

WIDE = {"hidden": 256, "intermediate": 512, "layers": 9, "heads": 8, "kv_heads": 2, "head_dim": 32}


class Halves(Seeded):
    """Weights that a float16 file holds exactly, so that both quantizers read the same values."""

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        values = super().read(name, start, stop)
        return values.astype(np.float16).astype(np.float32)


def seeded(model: Model, **text: int | None) -> Model:
    vlm = replace(model.vlm, text=replace(model.vlm.text, **text))
    return replace(model, vlm=vlm, weights=Halves(vlm))


MODELS: Mapping[str, Model] = {
    "wide, few heads of keys": seeded(tiny_model(hf_model("grouped heads")), **WIDE),
    "wide, as many heads of keys": seeded(
        tiny_model(hf_model("smolvlm2")), **WIDE | {"kv_heads": 8}
    ),
    "narrow": seeded(tiny_model(hf_model("grouped heads")), layers=8),
    "tied, wide": seeded(
        tiny_model(hf_model("five local layers to a global one")), **WIDE, attention_scale=None
    ),
    "fused": seeded(tiny_moondream("legacy"), layers=9),
}


def tensors(path: Path) -> dict[str, tuple[str, bytes]]:
    return {t.name: (t.tensor_type.name, t.data.tobytes()) for t in GGUFReader(path).tensors}


def written(model: Model, recipe: str, folder: Path) -> Written:
    folder.mkdir(exist_ok=True)
    return TARGETS["gguf"].write(model, KNOWN[recipe], folder, "onnx-vision")


def by_llama_cpp(path: Path, recipe: str) -> Path:
    """A float16 file through llama-quantize's function."""
    out = path.with_name("quantized.gguf")
    quantize(path, out, int(MIXES[recipe].file_type), pure=False)
    return out


@pytest.mark.parametrize("recipe", MIXTURES)
@pytest.mark.parametrize("name", MODELS)
def test_types_and_bytes_are_those_of_llama_quantize(
    name: str, recipe: str, tmp_path: Path
) -> None:
    model = MODELS[name]
    halves = written(model, "fp16", tmp_path / "halves").components["decoder"][0]
    wanted = tensors(by_llama_cpp(tmp_path / "halves" / halves, recipe))
    made = written(model, recipe, tmp_path / "made").components["decoder"][0]
    found = tensors(tmp_path / "made" / made)
    assert {key: kind for key, (kind, _) in found.items()} == {
        key: kind for key, (kind, _) in wanted.items()
    }
    assert found == wanted


def test_a_file_is_not_named_after_types_it_does_not_have(tmp_path: Path) -> None:
    named = {
        name: written(MODELS[name], "q4_k_m", tmp_path / name).components["decoder"][0]
        for name in ("wide, few heads of keys", "narrow")
    }
    assert named == {"wide, few heads of keys": "tiny-Q4_K_M.gguf", "narrow": "tiny-Q5_0.gguf"}


def test_rows_that_do_not_fit_the_blocks_are_reported(tmp_path: Path) -> None:
    made = written(MODELS["narrow"], "q4_k_m", tmp_path).quantization
    fallback = next(f for f in made.fallbacks if f.tensor == "blk.0.ffn_up.weight")
    assert (fallback.asked, fallback.got) == ("Q4_K", "Q5_0")
    assert "rows of 64 values" in fallback.reason
    assert made.bits_per_weight > 5


@pytest.mark.parametrize("recipe", MIXTURES)
@pytest.mark.parametrize("layout", ["native", "onnx-vision"])
def test_predicted_sizes_are_those_of_the_written_files(
    recipe: str, layout: str, tmp_path: Path
) -> None:
    model, target = MODELS["wide, few heads of keys"], TARGETS["gguf"]
    target.write(model, KNOWN[recipe], tmp_path, layout)
    found = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert target.sizes(model, KNOWN[recipe], layout) == found


def test_only_targets_that_have_the_types_take_the_recipe(tmp_path: Path) -> None:
    from export.build import ExportSpec, build

    spec = ExportSpec("onnx", KNOWN["q4_k_m"], "native")
    with pytest.raises(UserError, match="needs types of target gguf, which onnx does not have"):
        build(MODELS["narrow"], spec, tmp_path / "out", targets=TARGETS)
    assert not (tmp_path / "out").exists()
    assert set(KNOWN) == set(RECIPES) | set(MIXTURES) == set(RECIPES) | set(MIXES)


def test_without_llama_cpp_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ggml._quantize_chunk.cache_clear()
    monkeypatch.setattr(ggml, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pocket-vlm\[llama-cpp\]"):
        written(MODELS["narrow"], "q4_k_m", tmp_path)
