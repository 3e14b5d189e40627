"""GGUF files hold the checkpoint's values under llama.cpp's names, keys and types."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, quants
from tiny_models import CASES, hf_model, tiny_model

from export.errors import UserError
from export.files import file_name
from export.gguf.arrange import arranged, interleaved
from export.gguf.packing import packed, plan
from export.gguf.write import write
from export.model import Model
from export.modeling.tensors import Shape
from export.quantize.recipe import RECIPES, Recipe, Rule, Storage
from export.target import Written
from export.targets import TARGETS

# Largest error of a value relative to its row block's largest one.
Q4_0 = GGMLQuantizationType.Q4_0
ROUNDING = {"F32": 0.0, "F16": 2**-11, "Q8_0": 0.5 / 127 + 2**-11}
# What llama.cpp's converter forces (conversion/{base,smolvlm}.py).
ALWAYS_F32 = ("norm.weight", ".bias", "ln1.weight", "ln2.weight", "post_ln.weight", "_embd.weight")
MATRICES = {"fp32": "F32", "fp16": "F16", "int8": "Q8_0", "int4": "Q4_0"}


def written(recipe: str, folder: Path, case: str = "grouped heads") -> tuple[Model, Written]:
    model = tiny_model(hf_model(case))
    return model, TARGETS["gguf"].write(model, RECIPES[recipe], folder, "native")


def read(folder: Path, files: tuple[str, ...]) -> GGUFReader:
    return GGUFReader(folder / files[0])


def tensors(folder: Path, result: Written) -> dict[str, tuple[str, np.ndarray]]:
    """Every tensor of both files: name -> type and values, rows in the checkpoint's order."""
    found = {}
    for files in result.components.values():
        for tensor in read(folder, files).tensors:
            shape = tuple(int(size) for size in reversed(tensor.shape))
            values = quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
            found[tensor.name] = tensor.tensor_type.name, values
    return found


def expected_type(name: str, shape: Shape, recipe: str) -> str:
    if name.startswith(("v.patch_embd", "v.position_embd")) or len(shape) == 1:
        return "F32"
    if recipe in ("int8", "int4") and shape[-1] % 32:
        return "F16"
    return "Q8_0" if (name, recipe) == ("output.weight", "int4") else MATRICES[recipe]


def in_order(name: str, values: np.ndarray, model: Model) -> np.ndarray:
    """The checkpoint's order of rows: 2 i + half of a head of d rows was half * d / 2 + i."""
    if not (name.startswith("blk.") and name.endswith(("attn_q.weight", "attn_k.weight"))):
        return values
    rows, size = np.empty_like(values), model.vlm.text.head_dim
    for row, value in enumerate(values):
        head, within = divmod(row, size)
        rows[head * size + within % 2 * (size // 2) + within // 2] = value
    return rows


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("case", CASES)
def test_every_tensor_is_there_in_its_type_with_its_values(
    case: str, recipe: str, tmp_path: Path
) -> None:
    model, result = written(recipe, tmp_path, case)
    found = tensors(tmp_path, result)
    shapes = model.weights.shapes()
    assert found.keys() == shapes.keys()
    for name, (kind, stored) in found.items():
        assert kind == expected_type(name, shapes[name], recipe), name
        wanted, values = model.weights.read(name), in_order(name, stored, model)
        assert values.shape == wanted.shape
        width = 32 if kind.startswith("Q") else 1
        blocks = np.abs(wanted).reshape(-1, width).max(-1, keepdims=True)
        difference = np.abs(values - wanted).reshape(-1, width)
        if kind == "Q4_0":
            # Codes are searched: the least error with any scale is at most nearest's. The scale
            # that keeps a block's length then makes of an error's sine its tangent.
            nearest = quants.dequantize(quants.quantize(wanted, Q4_0), Q4_0)
            most = np.square(nearest - wanted).reshape(-1, width).sum(-1)
            most /= 1 - most / np.square(wanted).reshape(-1, width).sum(-1)
            assert (np.square(difference).sum(-1) <= 1.001 * most).all(), name
            continue
        assert (difference <= ROUNDING[kind] * blocks + 1e-7).all(), name


@pytest.mark.parametrize("recipe", RECIPES)
def test_reported_bytes_are_those_on_disk(recipe: str, tmp_path: Path) -> None:
    _, result = written(recipe, tmp_path, "narrow rows")
    sizes: dict[str, int] = {}
    types: dict[str, int] = {}
    for files in result.components.values():
        for tensor in read(tmp_path, files).tensors:
            part = "vision" if tensor.name.startswith(("v.", "mm.")) else "decoder"
            part = "embedding" if tensor.name == "token_embd.weight" else part
            sizes[part] = sizes.get(part, 0) + int(tensor.n_bytes)
            kind = tensor.tensor_type.name
            types[kind] = types.get(kind, 0) + int(tensor.n_elements)
    shares = result.quantization.components
    assert {part: share.weight_bytes for part, share in shares.items()} == sizes
    assert result.quantization.types == types
    assert sum(share.parameters for share in shares.values()) == sum(types.values())
    quantized = sum(count for kind, count in types.items() if kind.startswith("Q"))
    assert sum(share.quantized_parameters for share in shares.values()) == quantized


def test_rows_that_are_not_whole_blocks_stay_float16_and_are_named(tmp_path: Path) -> None:
    model, result = written("int4", tmp_path, "narrow rows")
    narrow = {n for n, s in model.weights.shapes().items() if len(s) == 2 and s[-1] % 32}
    narrow -= {"v.position_embd.weight"}
    assert {fallback.tensor for fallback in result.quantization.fallbacks} == narrow
    assert {(f.asked, f.got) for f in result.quantization.fallbacks} == {("Q4_0", "F16")}
    assert "rows of 40 values are not whole blocks of 32" in {
        fallback.reason for fallback in result.quantization.fallbacks
    }


def test_a_recipe_that_gguf_cannot_follow_gives_fallbacks(tmp_path: Path) -> None:
    recipe = Recipe("own", (Rule("v.*", Storage(8)), Rule("*", Storage(4, block=64))))
    model = tiny_model(hf_model("grouped heads"))
    reasons = {
        fallback.tensor: (fallback.asked, fallback.got, fallback.reason)
        for fallback in write(model, recipe, tmp_path, "native").quantization.fallbacks
    }
    assert reasons["v.position_embd.weight"] == (
        "Q8_0",
        "F32",
        "llama.cpp requires F32",
    )
    assert reasons["blk.0.ffn_up.weight"] == (
        "Q4_0, blocks of 64",
        "Q4_0",
        "the type's blocks have 32 values",
    )
    assert "v.blk.0.ffn_up.weight" not in reasons


TEXT_KEYS: Mapping[str, Any] = {
    "general.architecture": "llama",
    "general.type": "model",
    "general.name": "tiny",
    "general.file_type": 2,
    "general.quantization_version": 2,
    "llama.block_count": 3,
    "llama.context_length": 256,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 96,
    "llama.vocab_size": 400,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.key_length": 16,
    "llama.attention.value_length": 16,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 1e5,
    "llama.rope.dimension_count": 16,
}
VISION_KEYS: Mapping[str, Any] = {
    "general.architecture": "clip",
    "general.type": "mmproj",
    "general.name": "tiny",
    "general.file_type": 2,
    "general.quantization_version": 2,
    "clip.has_vision_encoder": True,
    "clip.projector_type": "idefics3",
    "clip.use_gelu": True,
    "clip.vision.image_size": 32,
    "clip.vision.patch_size": 8,
    "clip.vision.embedding_length": 64,
    "clip.vision.feed_forward_length": 160,
    "clip.vision.block_count": 3,
    "clip.vision.attention.head_count": 4,
    "clip.vision.attention.layer_norm_epsilon": 1e-6,
    "clip.vision.projection_dim": 64,
    "clip.vision.projector.scale_factor": 2,
    "clip.vision.image_mean": [0.5, 0.5, 0.5],
    "clip.vision.image_std": [0.5, 0.5, 0.5],
    "clip.vision.preproc_image_size": 64,
}


@pytest.mark.parametrize(("part", "wanted"), [("decoder", TEXT_KEYS), ("vision", VISION_KEYS)])
def test_metadata_has_the_keys_of_llama_cpps_converter_and_no_others(
    part: str, wanted: Mapping[str, Any], tmp_path: Path
) -> None:
    _, result = written("int4", tmp_path)
    fields = read(tmp_path, result.components[part]).fields.items()
    found = {key: field.contents() for key, field in fields}
    others = {key for key in found if not key.startswith(("GGUF.", "tokenizer."))} - wanted.keys()
    assert others == {"general.size_label"}
    for key, value in wanted.items():
        assert found[key] == (pytest.approx(value) if isinstance(value, float) else value), key


@pytest.mark.parametrize(
    ("recipe", "files"),
    [
        ("fp32", {"tiny-F32.gguf", "mmproj-tiny-F32.gguf"}),
        ("fp16", {"tiny-F16.gguf", "mmproj-tiny-F16.gguf"}),
        ("int8", {"tiny-Q8_0.gguf", "mmproj-tiny-Q8_0.gguf"}),
        ("int4", {"tiny-Q4_0.gguf", "mmproj-tiny-Q4_0.gguf"}),
    ],
)
def test_files_are_named_after_model_and_type(recipe: str, files: set[str], tmp_path: Path) -> None:
    written(recipe, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == files


def test_a_tower_that_stays_float16_is_not_named_quantized(tmp_path: Path) -> None:
    _, result = written("int4", tmp_path, "narrow rows")
    assert result.components["vision"] == ("mmproj-tiny-F16.gguf",)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("smolvlm-256m", "smolvlm-256m"),
        ("HuggingFaceTB/SmolVLM-256M", "HuggingFaceTB-SmolVLM-256M"),
        ("../../etc/passwd", "etc-passwd"),
        ("my model (2)", "my-model-2"),
        ("…", "model"),
        ("x" * 250, "x" * 128),
    ],
)
def test_a_name_becomes_a_file_name_without_separators(name: str, safe: str) -> None:
    assert file_name(name) == safe


class Noted:
    """Weights in memory that remember how many rows each read asked for."""

    synthetic, origin = False, {}

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.reads: list[int] = []

    def shapes(self) -> Mapping[str, Shape]:
        return {"t": self.values.shape}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        part = np.ascontiguousarray(self.values[start:stop])
        self.reads.append(len(part))
        return part


@pytest.mark.parametrize("head_rows", [0, 8])
@pytest.mark.parametrize("recipe", RECIPES)
def test_rows_read_in_parts_give_the_bytes_of_the_whole(recipe: str, head_rows: int) -> None:
    values = np.random.default_rng(0).standard_normal((40, 64), np.float32)
    weights = Noted(values)
    arrangement = "interleaved_heads" if head_rows else None
    (piece,) = arranged("t.weight", values.shape, arrangement, head_rows)
    tensor, _ = plan(piece, RECIPES[recipe].rounded("nearest"), {})
    parts = b"".join(part.tobytes() for part in packed(weights, tensor, chunk_values=1000))
    assert max(weights.reads) == (8 if head_rows else 15)
    ordered = interleaved(values, head_rows) if head_rows else values
    assert parts == quants.quantize(ordered, tensor.type).tobytes()
    assert len(parts) == tensor.weight_bytes


BAD_VALUES = [
    ("fp16", 1e5, "1e.05|100000"),
    ("int8", 1e8, "100000000.*scale .*at most 65504"),
    ("int4", 1e6, "1000000.*scale .*at most 65504"),
    ("fp32", np.nan, "nan"),
    ("int4", np.inf, "inf"),
]


@pytest.mark.parametrize(("recipe", "value", "said"), BAD_VALUES)
def test_a_value_that_the_type_cannot_hold_is_refused(recipe: str, value: float, said: str) -> None:
    values = np.ones((4, 32), np.float32)
    values[2, 3] = value
    (piece,) = arranged("blk.0.ffn_up.weight", values.shape, None, 0)
    tensor, _ = plan(piece, RECIPES[recipe], {})
    with pytest.raises(UserError, match=said) as caught:
        list(packed(Noted(values), tensor))
    assert "blk.0.ffn_up.weight" in str(caught.value)


def test_an_image_scale_that_llama_cpp_does_not_know_is_refused_before_writing(
    tmp_path: Path,
) -> None:
    model = tiny_model(hf_model("grouped heads"))
    other = replace(model, image=replace(model.image, rescale=1 / 127.5))
    with pytest.raises(UserError, match="1/255"):
        write(other, RECIPES["int8"], tmp_path, "native")
    assert list(tmp_path.iterdir()) == []
