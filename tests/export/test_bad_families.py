"""What test_bad_input shows of one family, for every one: tensors, numbers, tokenizers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from random_checkpoint import save
from tiny_configs import CONFIGS, PREPROCESSORS

from export.__main__ import main
from export.families import FAMILIES
from tests.export.checkpoints import changed, save_json, save_raw

WEIGHTS = "model.safetensors"
Header = dict[str, dict[str, Any]]


def edited(change: Callable[[Header, bytearray], object]) -> Callable[[Path], None]:
    """Breaks the weights by changing the file's header and its data."""

    def broken(folder: Path) -> None:
        raw = (folder / WEIGHTS).read_bytes()
        end = 8 + int.from_bytes(raw[:8], "little")
        header, data = json.loads(raw[8:end]), bytearray(raw[end:])
        change(header, data)
        save_raw(folder / WEIGHTS, json.dumps(header).encode(), bytes(data))

    return broken


def last(header: Header) -> str:
    return max(header, key=lambda name: header[name]["data_offsets"])


def drop(header: Header, data: bytearray) -> None:
    del data[header.pop(last(header))["data_offsets"][0] :]


def rename(header: Header, data: bytearray) -> None:
    header["renamed.weight"] = header.pop(last(header))


def add(header: Header, data: bytearray) -> None:
    header["more.weight"] = {"dtype": "F32", "shape": [2], "data_offsets": [len(data)] * 2}
    header["more.weight"]["data_offsets"][1] += 8
    data += bytes(8)


def wrap(header: Header, data: bytearray) -> None:
    for name in [*header]:
        header[f"_orig_mod.{name}"] = header.pop(name)


def turn(header: Header, data: bytearray) -> None:
    """The first matrix that is not square, its rows and columns exchanged."""
    entry = next(e for e in header.values() if len(set(e["shape"])) == 2 == len(e["shape"]))
    entry["shape"] = entry["shape"][::-1]


def retype(header: Header, data: bytearray) -> None:
    header[last(header)]["dtype"] = "I16"


def overlap(header: Header, data: bytearray) -> None:
    offsets = header[last(header)]["data_offsets"]
    offsets[:] = [offset - 2 for offset in offsets]


TENSORS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (edited(drop), "tensors missing: "),
    "renamed": (edited(rename), "not of this architecture: renamed.weight; take config.json"),
    "extra": (edited(add), "tensors not of this architecture: more.weight; take"),
    "wrapped": (edited(wrap), "all names begin with '_orig_mod.', so save the model without its"),
    "turned": (edited(turn), "tensors of the wrong shape: "),
    "of integers": (edited(retype), "is stored as I16, but only F32, F16, BF16 are read; save"),
    "overlapping": (edited(overlap), "overlaps the tensor before it"),
    "cut short": (edited(lambda header, data: data.pop()), "it is cut short ("),
    "a pickle": (
        lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"),
        "has only pytorch_model.bin; such checkpoints are not read, because loading one may run",
    ),
    "of a larger model": (
        edited(lambda header, data: (add(header, data), rename(header, data))),
        "tensors not of this architecture: renamed.weight; take",
    ),
}
NUMBERS: dict[str, tuple[str, dict[str, Any], str]] = {
    # name: family, changes to config.json, words of the error
    "smolvlm: heads": ("smolvlm", {"text_config__hidden_size": 30}, "not a multiple of num_att"),
    "smolvlm: odd head": ("smolvlm", {"text_config__head_dim": 7}, "head_dim 7 is odd"),
    "smolvlm: vocabulary": ("smolvlm", {"text_config__vocab_size": 300}, "image_token_id 398"),
    "gemma3: heads": ("gemma3", {"text_config__num_key_value_heads": 3}, "num_key_value_heads 3"),
    "gemma3: tower's heads": ("gemma3", {"vision_config__num_attention_heads": 3}, "vision tower"),
    "gemma3: vocabulary": ("gemma3", {"image_token_index": 400}, "not within the vocabulary"),
    "gemma3: pooling to 3": ("gemma3", {"mm_tokens_per_image": 9}, "mm_tokens_per_image 9 is not"),
    "gemma3: no square": ("gemma3", {"mm_tokens_per_image": 5}, "mm_tokens_per_image 5 is not"),
    "gemma3: no tokens": ("gemma3", {"mm_tokens_per_image": 0}, "mm_tokens_per_image 0 is not"),
    "gemma3: layer types": (
        "gemma3",
        {"text_config__layer_types": ["full_attention"] * 2},
        "layer_types has 2 of full_attention, expected 3",
    ),
    "gemma3: pattern": ("gemma3", {"text_config__sliding_window_pattern": 0}, "pattern is 0"),
    "gemma3: window": ("gemma3", {"text_config__sliding_window": -1}, "is not between 1 and"),
    "gemma3: scale": ("gemma3", {"text_config__query_pre_attn_scalar": 0}, "a number above 0"),
    "gemma3: list": ("gemma3", {"text_config": [1]}, "text_config is [1], expected an object"),
    "qwen2_5_vl: sections": (
        "qwen2_5_vl",
        {"rope_scaling": {"mrope_section": [1, 1, 1]}},
        "mrope_section [1, 1, 1] does not add up to half of head_dim 8",
    ),
    "qwen2_5_vl: full layers": (
        "qwen2_5_vl",
        {"vision_config__fullatt_block_indexes": [1, 2]},
        "fullatt_block_indexes [1, 2] names layers that the vision tower does not have",
    ),
    "qwen2_5_vl: window": ("qwen2_5_vl", {"vision_config__window_size": 20}, "window_size 20 is"),
    "qwen2_5_vl: a window of 2**63 patches": (
        "qwen2_5_vl",
        {"vision_config__window_size": 16 << 63},
        "window_size is 147573952589676412928, expected an integer of at least 1 (from -2147483647 "
        "to 2147483647); take config.json",
    ),
    "qwen2_5_vl: patch": ("qwen2_5_vl", {"vision_config__patch_size": 0}, "patch_size is 0"),
    "qwen2_5_vl: vocabulary": ("qwen2_5_vl", {"image_token_id": 400}, "image_token_id 400 is not"),
    "qwen2_5_vl: object": ("qwen2_5_vl", {"vision_config__num_heads": {}}, "expected an integer"),
    "internvl: biases": (
        "internvl",
        {"vision_config__attention_bias": False},
        "vision_config.attention_bias is false",
    ),
    "internvl: not square": (
        "internvl",
        {"vision_config__image_size": [32, 64]},
        "image_size is [32, 64], expected an integer of at least 1, or two equal ones",
    ),
    "internvl: another text model": (
        "internvl",
        {"text_config__model_type": "llama"},
        "text_config.model_type is llama, but only qwen2 is supported",
    ),
    "internvl: shuffle": ("internvl", {"downsample_ratio": 0.3}, "1 / downsample_ratio, 3"),
    "internvl: ratio": ("internvl", {"downsample_ratio": 0}, "expected a number above 0"),
    "moondream: prefix": ("moondream", {"config__text__prefix_attn": 18}, "only 17 is supported"),
    "moondream: margin": ("moondream", {"config__vision__overlap_margin": 2}, "not fit crops"),
    "moondream: width": ("moondream", {"config__region__dim": 31}, "region.dim is 31, but only 32"),
    "moondream: vocabulary": ("moondream", {"config__text__vocab_size": 300}, "bos_token_id 300"),
    "moondream: channels": ("moondream", {"config__vision__in_channels": 1}, "only 3 is supported"),
    "moondream: quantized": ("moondream", {"config__text__group_size": 128}, "group_size is 128"),
    "moondream: experts": (
        "moondream",
        {"config__text__moe": {"num_experts": 64}},
        "config.text.moe is not supported for this family, only dim, ff_dim",
    ),
    "moondream: templates": (
        "moondream",
        {"config__tokenizer__templates__detect": {"prefix": [1]}},
        "templates.detect.suffix is missing; take config.json from the checkpoint",
    ),
    "moondream: a template of words": (
        "moondream",
        {"config__tokenizer__templates__query__prefix": "Question"},
        'templates.query.prefix is "Question", expected a list of integers',
    ),
}  # fmt: skip
# What any number of any family may be instead.
NONSENSE = {
    "negative": -1,
    "huge": 10**40,
    "infinite": float("inf"),
    "a word": "many",
    "a list": [],
}
NUMERIC = {
    "smolvlm": ("text_config__num_hidden_layers", "vision_config__image_size", "scale_factor"),
    "gemma3": ("text_config__hidden_size", "vision_config__patch_size", "text_config__head_dim"),
    "moondream": ("config__text__n_layers", "config__vision__crop_size", "config__text__n_heads"),
    "internvl": (
        "text_config__num_hidden_layers",
        "vision_config__hidden_size",
        "vision_config__patch_size",
    ),
    "qwen2_5_vl": (
        "num_hidden_layers",
        "vision_config__depth",
        "vision_config__spatial_merge_size",
    ),
}


def sound(folder: Path, family: str) -> Path:
    return save(folder / "model", CONFIGS[family], PREPROCESSORS[family])


def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that an export of `folder` ends with; nothing is left of it."""
    out = folder.parent / "out"
    arguments = ["--target", "onnx", "--recipe", "int8", "--no-verify", "--out", str(out)]
    assert main([str(folder), *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    return shown.err


@pytest.mark.parametrize("case", TENSORS)
@pytest.mark.parametrize("family", FAMILIES)
def test_broken_tensors_are_one_line(
    family: str, case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (broken, expected), folder = TENSORS[case], sound(tmp_path, family)
    broken(folder)
    message = refused(folder, capsys)
    assert expected in message
    assert str(folder) in message


@pytest.mark.parametrize(("family", "changes", "expected"), NUMBERS.values(), ids=NUMBERS)
def test_contradictory_numbers_are_one_line(
    family: str,
    changes: dict[str, Any],
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = sound(tmp_path, family)
    save_json(folder / "config.json", changed(CONFIGS[family], **changes))
    message = refused(folder, capsys)
    assert expected in message
    assert "config.json" in message


@pytest.mark.parametrize("value", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize("family", FAMILIES)
def test_values_of_the_wrong_type_are_one_line(
    family: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sound(tmp_path, family)
    for key in NUMERIC[family]:
        text = json.dumps(changed(CONFIGS[family], **{key: value}))
        (folder / "config.json").write_text(text.replace("Infinity", "1e999"))
        assert "config.json" in refused(folder, capsys)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tokenizer_of_another_model_is_one_line(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sound(tmp_path, family)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    special = FAMILIES[family].special_tokens
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] not in special]
    for token in special:
        content["model"]["vocab"].pop(token, None)
    save_json(path, content)
    message = refused(folder, capsys)
    assert "tokenizer.json: " in message
    assert "; take both files from the same" in message
