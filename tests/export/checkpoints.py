"""Tiny checkpoint folders, written without torch, sound or broken in one respect."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.arrays import FloatArray
from export.checkpoint.tokenizer import synthetic_tokenizer
from export.families.section import Section
from export.families.smolvlm import SMOLVLM
from export.modeling.vlm import shapes

VOCAB, IMAGE_TOKEN = 400, 398
CONFIG: dict[str, Any] = {
    "model_type": "idefics3",
    "image_token_id": IMAGE_TOKEN,
    "scale_factor": 2,
    "tie_word_embeddings": False,
    "text_config": {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCAB,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e5,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
}
PREPROCESSOR: dict[str, Any] = {
    "do_image_splitting": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "max_image_size": {"longest_edge": 32},
    "size": {"longest_edge": 64},
    "rescale_factor": 1 / 255,
    "resample": 1,
}
Tensors = dict[str, FloatArray]
DTYPES: Mapping[str, Callable[[FloatArray], bytes]] = {
    "F32": lambda values: values.astype("<f4").tobytes(),
    "F16": lambda values: values.astype("<f2").tobytes(),
    "BF16": lambda values: (values.view(np.uint32) >> 16).astype("<u2").tobytes(),
    "F64": lambda values: values.astype("<f8").tobytes(),
}


def make(folder: Path, **changes: Any) -> Path:
    """A sound checkpoint in the new `folder`; `changes` name values of config.json by `a__b`."""
    config = changed(CONFIG, **changes)
    folder.mkdir(parents=True)
    save_json(folder / "config.json", config)
    save_json(folder / "preprocessor_config.json", PREPROCESSOR)
    vlm = SMOLVLM.read(Section(CONFIG, "config.json"))
    for name, data in synthetic_tokenizer(vlm, SMOLVLM.special_tokens).items():
        (folder / name).write_bytes(data)
    save_tensors(folder / "model.safetensors", tensors(CONFIG))
    return folder


def tensors(config: Mapping[str, Any]) -> Tensors:
    """Random values for every tensor of a config.json, under the names of the hub."""
    random, vlm = np.random.default_rng(0), SMOLVLM.read(Section(config, "config.json"))
    sources = SMOLVLM.sources(vlm)
    return {
        sources[name].name: random.standard_normal(shape, np.float32)
        for name, shape in shapes(vlm).items()
    }


def save_tensors(path: Path, values: Mapping[str, FloatArray], dtype: str = "F32") -> None:
    """A safetensors file with every tensor kept as `dtype`."""
    header, data = {}, b""
    for name, value in values.items():
        packed = DTYPES[dtype](value)
        header[name] = {
            "dtype": dtype,
            "shape": list(value.shape),
            "data_offsets": [len(data), len(data) + len(packed)],
        }
        data += packed
    save_raw(path, json.dumps(header).encode(), data)


def save_raw(path: Path, header: bytes, data: bytes = b"") -> None:
    """Any header and any data, framed as the format wants."""
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def save_shards(folder: Path, values: Tensors, count: int = 2) -> dict[str, str]:
    """The tensors in `count` files with an index; returns its weight_map."""
    names = list(values)
    places = {}
    for shard in range(count):
        file, own = f"model-{shard + 1:05}-of-{count:05}.safetensors", names[shard::count]
        save_tensors(folder / file, {name: values[name] for name in own})
        places |= dict.fromkeys(own, file)
    save_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})
    return places


def changed(config: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy with values replaced, named as text_config__hidden_size; ... removes the key."""
    copy = json.loads(json.dumps(config))
    for path, value in changes.items():
        *sections, key = path.split("__")
        place = copy
        for section in sections:
            place = place[section]
        if value is ...:
            del place[key]
        else:
            place[key] = value
    return copy


def save_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))
