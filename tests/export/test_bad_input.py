"""What a stranger's files may hold: each fault is one line that names the place and the remedy."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.checkpoint.registry import open_model
from export.errors import UserError
from tests.export.checkpoints import (
    CONFIG,
    PREPROCESSOR,
    changed,
    make,
    save_json,
    save_raw,
    save_shards,
    save_tensors,
    tensors,
)

HEAD, NORM = "lm_head.weight", "model.text_model.norm.weight"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
Break = Callable[[Path], Any]


def weights(change: Callable[[dict[str, Any]], Any], dtype: str = "F32") -> Break:
    """Breaks the tensors by changing the mapping from name to values."""

    def broken(folder: Path) -> None:
        values: dict[str, Any] = dict(tensors(CONFIG))
        change(values)
        save_tensors(folder / WEIGHTS, values, dtype)

    return broken


def header(entry: object, data: bytes = b"") -> Break:
    """A weights file with one tensor, `x`, described by `entry`."""
    raw = json.dumps({"x": entry}).encode()
    return lambda folder: save_raw(folder / WEIGHTS, raw, data)


def raw_header(raw: bytes) -> Break:
    return lambda folder: save_raw(folder / WEIGHTS, raw)


def index(change: Callable[[dict[str, str], Path], Any]) -> Break:
    """Shards whose weight_map is changed."""

    def broken(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        places = save_shards(folder, tensors(CONFIG))
        change(places, folder)
        save_json(folder / INDEX, {"weight_map": places})

    return broken


def only(name: str) -> Break:
    """The weights renamed: a folder that has them under another name alone."""
    return lambda folder: (folder / WEIGHTS).rename(folder / name)


def config(**changes: Any) -> Break:
    return lambda folder: save_json(folder / "config.json", changed(CONFIG, **changes))


def preprocessor(**changes: Any) -> Break:
    content = changed(PREPROCESSOR, **changes)
    return lambda folder: save_json(folder / "preprocessor_config.json", content)


def text(name: str, data: bytes) -> Break:
    return lambda folder: (folder / name).write_bytes(data)


def tokenizer(change: Callable[[dict[str, Any]], Any]) -> Break:
    def broken(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_bytes())
        change(content)
        save_json(folder / "tokenizer.json", content)

    return broken


def prefix_subwords(content: dict[str, Any]) -> None:
    content["model"].update(continuing_subword_prefix="#", merges=[["t", "#h"], ["t", "h"]])


def rename_image(content: dict[str, Any]) -> None:
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] != "<image>"]
    content["model"]["vocab"].pop("<image>", None)


def cut(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:-100])


def link(name: str, target: str) -> Break:
    def broken(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return broken


def move_weights_out(folder: Path) -> None:
    outside = folder.parent / "outside.safetensors"
    (folder / WEIGHTS).rename(outside)
    (folder / WEIGHTS).symlink_to(outside)


def link_shard_out(places: dict[str, str], folder: Path) -> None:
    shard = folder / places[NORM]
    shard.rename(folder.parent / shard.name)
    shard.symlink_to(f"../{shard.name}")


def lost(places: dict[str, str], folder: Path) -> None:
    file, values = places[NORM], tensors(CONFIG)
    own = {name: values[name] for name in places if places[name] == file and name != NORM}
    save_tensors(folder / file, own)


def twice(places: dict[str, str], folder: Path) -> None:
    """The same tensor in both shards."""
    values = tensors(CONFIG)
    first = {n: values[n] for n, place in places.items() if place.startswith("model-00001")}
    second = next(name for name in values if name not in first)
    save_tensors(folder / "model-00001-of-00002.safetensors", first | {second: values[second]})


def nan(values: dict[str, Any]) -> None:
    values[NORM] = np.full_like(values[NORM], np.nan)


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BROKEN: dict[str, tuple[Break, str]] = {
    # tensors and numbers, both ways
    "missing tensor": (weights(lambda v: v.pop(HEAD)), "missing: lm_head.weight"),
    "extra tensor": (
        weights(lambda v: v.update(extra=np.zeros(3, np.float32))),
        "not of this architecture: extra",
    ),
    "wrong shape": (
        weights(lambda v: v.update({NORM: np.ones(31, np.float32)})),
        "norm.weight is [31], expected [32]",
    ),
    "several at once": (
        weights(lambda v: (v.pop(HEAD), v.update(more=v[NORM]))),
        "missing: lm_head.weight; not of this architecture: more",
    ),
    "an adapter's tensors": (
        weights(lambda v: v.update({"x.lora_A.weight": np.zeros(3, np.float32)})),
        "merge_and_unload",
    ),
    "more layers than tensors": (config(text_config__num_hidden_layers=2), "(9 in all)"),
    "tied, with a head": (config(tie_word_embeddings=True), "lm_head.weight"),
    "stored as F64": (weights(lambda v: None, "F64"), "is stored as F64"),
    "not finite": (weights(nan), "not finite"),
    # the container
    "empty file": (text(WEIGHTS, b""), "header of 0 bytes in a file of 0"),
    "truncated": (cut, "it is cut short"),
    "header longer than the file": (text(WEIGHTS, b"\xff" * 8 + b"{}"), "in a file of 10"),
    "header not JSON": (raw_header(b"{x"), "is not valid JSON"),
    "header not UTF-8": (raw_header(b'{"\xff": 1}'), "is not UTF-8"),
    "header not an object": (raw_header(b"[1]"), "holds a JSON list"),
    "header nested deeply": (raw_header(b'{"a":' + b"[" * 100_000), "nested too deeply"),
    "header with a tensor twice": (raw_header(b'{"a": 1, "a": 2}'), "'a' occurs twice"),
    "entry without a shape": (header({"dtype": "F32"}), "x is described by"),
    "unknown dtype": (header(F32 | {"dtype": "I5"}, bytes(8)), "unknown dtype 'I5'"),
    "negative size": (header(F32 | {"shape": [-2]}, bytes(8)), "has the shape [-2]"),
    "size of no shape": (header(F32 | {"shape": [3]}, bytes(8)), "has 8 bytes, which is not [3]"),
    "offset beyond": (header(F32 | {"data_offsets": [8, 16]}, bytes(8)), "leaves a gap"),
    "too little data": (header(F32, bytes(4)), "it is cut short"),
    "too much data": (header(F32, bytes(12)), "surplus bytes at its end"),
    # the folder
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "neither model.safetensors nor"),
    "pickle": (only("pytorch_model.bin"), "may run code"),
    "old checkpoint": (only("last.ckpt"), "save_pretrained(…, safe_serialization=True)"),
    "adapter": (only("adapter_model.safetensors"), "merge it into its model"),
    "weights linked out": (move_weights_out, "links out of the folder"),
    "shard above": (
        index(lambda p, _: p.update({NORM: "../model.safetensors"})),
        "'../model.safetensors', which is not a plain path inside",
    ),
    "shard elsewhere": (index(lambda p, _: p.update({NORM: "/etc/passwd"})), "'/etc/passwd'"),
    "shard linked out": (index(link_shard_out), "links out of the folder"),
    "shard missing": (index(lambda p, _: p.update({NORM: "more.safetensors"})), "is not there"),
    "index without a tensor": (index(lambda p, _: p.pop(NORM)), "does not agree with model-0000"),
    "index with a tensor that no file has": (index(lost), f"tensors missing: {NORM}"),
    "tensor in two shards": (index(twice), "does not agree with model-00001-of-00002.safetensors"),
    "index of other things": (
        lambda folder: ((folder / WEIGHTS).unlink(), save_json(folder / INDEX, {"weight_map": 3})),
        "expected an object 'weight_map'",
    ),
    # config.json
    "no config": (lambda folder: (folder / "config.json").unlink(), "no such file"),
    "config linked out": (link("config.json", "/etc/hostname"), "links out of the folder"),
    "config not JSON": (text("config.json", b"{"), "is not valid JSON"),
    "config not UTF-8": (text("config.json", b'{"\xe9": 1}'), "is not UTF-8"),
    "config not an object": (text("config.json", b"[]"), "holds a JSON list, expected an object"),
    "config huge": (text("config.json", b" " * (65 << 20)), "expected at most 67108864"),
    "config with NaN": (text("config.json", b'{"a": NaN}'), "NaN is not a JSON number"),
    "unknown family": (
        config(model_type="idefic"),
        "config.json: model_type 'idefic' is not supported, only",
    ),
    "no family": (config(model_type=...), "no model_type"),
    "no text_config": (config(text_config=...), ": text_config is missing"),
    "missing key": (config(text_config__hidden_size=...), "text_config.hidden_size is missing"),
    "text_config a list": (config(text_config=[1]), "text_config is [1], expected an object"),
    "number as text": (config(text_config__intermediate_size="48"), "expected an integer"),
    "heads zero": (config(text_config__num_attention_heads=0), "heads is 0, expected an integer"),
    "layers negative": (
        config(text_config__num_hidden_layers=-1),
        "layers is -1, expected",
    ),
    "layers absurd": (config(text_config__num_hidden_layers=10**9), "expected 1 to 1024"),
    "hidden not divisible": (config(text_config__hidden_size=30), "is not a multiple of"),
    "kv heads": (config(text_config__num_key_value_heads=3), "num_key_value_heads 3"),
    "patches": (config(vision_config__patch_size=64), "is smaller than patch_size"),
    "shuffle": (config(scale_factor=3), "are not a multiple of scale_factor 3"),
    "image token beyond": (config(image_token_id=400), "not within the vocabulary of 400"),
    "eps infinite": (
        text("config.json", json.dumps(CONFIG).replace("1e-05", "1e999").encode()),
        "rms_norm_eps is Infinity, expected a number",
    ),
    "activation": (config(text_config__hidden_act="relu"), 'hidden_act is "relu", expected one of'),
    "rope scaled": (config(text_config__rope_scaling={"type": "yarn"}), "is of kind yarn"),
    # the other files
    "no preprocessor": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        "save the processor into the folder too",
    ),
    "tiles of another size": (preprocessor(max_image_size={"longest_edge": 64}), "max_image_size"),
    "deviation zero": (preprocessor(image_std=[0, 0.5, 0.5]), "image_std (0.0, 0.5, 0.5)"),
    "edge absurd": (preprocessor(size={"longest_edge": 10**6}), "longest edge of 1000000"),
    "eos of text": (text("generation_config.json", b'{"eos_token_id": "x"}'), "expected an id or"),
    "eos beyond": (text("generation_config.json", b'{"eos_token_id": [2, 999]}'), "999 is not"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "save the tokenizer"),
    "tokenizer broken": (text("tokenizer.json", b"{}"), "is not a tokenizer"),
    "tokenizer binary": (text("tokenizer.json", b"\x80abc"), "is not a tokenizer"),
    "tokenizer of other merges": (tokenizer(prefix_subwords), "but a merge ends in 'h'"),
    "no image token": (tokenizer(rename_image), "has no such token for <image>"),
    "other image token": (config(image_token_id=397), "has id 398 for <image>"),
    "tokenizer_config cut": (text("tokenizer_config.json", b'{"bos_token": '), "is not valid JSON"),
    "tokenizer_config of text": (
        text("tokenizer_config.json", b'{"added_tokens_decoder": {"0": 1000}}'),
        "added_tokens_decoder.0 is 1000, expected a token's text or an object with its content",
    ),
    "special token a number": (
        text("tokenizer_config.json", b'{"pad_token": 3}'),
        "tokenizer_config.json: pad_token is 3, expected a token's text",
    ),
    "class a list": (
        text("tokenizer_config.json", b'{"tokenizer_class": []}'),
        "tokenizer_class is [], expected the name of a class",
    ),
    "special tokens map": (
        text("special_tokens_map.json", b'{"eos_token": {"content": "</s>", "lstrip": 1}}'),
        "special_tokens_map.json: eos_token is",
    ),
    "added tokens": (text("added_tokens.json", b'{"<a>": "7"}'), '<a> is "7", expected an id'),
    "tokenizer too large": (config(text_config__vocab_size=399), "has id 399"),
}
LATE = {"not finite"}
"""Found when values are read, not when the model is opened."""


def open_and_read(folder: Path, expect_open: bool) -> None:
    model = open_model(str(folder))
    assert expect_open
    model.weights.read("output_norm.weight")


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_checkpoint_is_one_line_with_the_file(tmp_path: Path, case: str) -> None:
    broken, expected = BROKEN[case]
    folder = make(tmp_path / "model")
    broken(folder)
    with pytest.raises(UserError) as raised:
        open_and_read(folder, expect_open=case in LATE)
    message = str(raised.value)
    assert expected in message
    assert "\n" not in message
    assert len(message) < 600


def test_the_unbroken_checkpoint_opens(tmp_path: Path) -> None:
    model = open_model(str(make(tmp_path / "model")))
    assert model.weights.read("output_norm.weight").shape == (32,)


def test_a_snapshot_of_the_hubs_cache_may_link_to_its_blobs(tmp_path: Path) -> None:
    snapshot = make(tmp_path / "models--a--b" / "snapshots" / "0123")
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    for file in list(snapshot.iterdir()):
        file.rename(blobs / file.name)
        file.symlink_to(os.path.relpath(blobs / file.name, snapshot))
    assert open_model(str(snapshot)).weights.read("output_norm.weight").shape == (32,)
