"""Checkpoints of real geometry with few layers and few tokens: every width is the model's own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from export.arrays import FloatArray
from export.checkpoint.registry import data_root
from export.checkpoint.synthetic import Synthetic
from export.checkpoint.tokenizer import synthetic_tokenizer
from export.families import family_of
from export.families.section import Section
from export.families.spec import Source
from export.weights import Weights

VOCAB, IMAGE_TOKEN = 640, 638
Json = dict[str, Any]
# Name of a configuration -> what is changed in it, by paths.
CUTS: Mapping[str, Mapping[str, Any]] = {
    "smolvlm-256m": {
        "image_token_id": IMAGE_TOKEN,
        "text_config.vocab_size": VOCAB,
        "text_config.num_hidden_layers": 2,
        "vision_config.num_hidden_layers": 1,
    },
    "smolvlm-500m": {
        "image_token_id": IMAGE_TOKEN,
        "text_config.vocab_size": VOCAB,
        "text_config.num_hidden_layers": 1,
        "vision_config.num_hidden_layers": 1,
    },
    "qwen2.5-vl-3b": {
        "image_token_id": IMAGE_TOKEN,
        "bos_token_id": 256,
        "eos_token_id": 257,
        "vocab_size": VOCAB,
        "num_hidden_layers": 1,
        "vision_config.depth": 3,  # llama.cpp's table of names wants as many
        "vision_config.fullatt_block_indexes": [1],
    },
    "gemma-3-4b": {
        "image_token_index": IMAGE_TOKEN,
        "text_config.vocab_size": VOCAB,
        "text_config.num_hidden_layers": 1,
        "vision_config.num_hidden_layers": 1,
    },
    "gemma-3-1b": {"vocab_size": VOCAB, "num_hidden_layers": 1},
}


def save_cut(name: str, folder: Path) -> Path:
    """Write the cut model's checkpoint into the new `folder`, weights random and in bfloat16."""
    origin = data_root() / "models" / "configs" / name
    config = json.loads((origin / "config.json").read_text())
    for path, value in CUTS[name].items():
        set_at(config, path, value)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    preprocessor = origin / "preprocessor_config.json"
    if preprocessor.exists():
        (folder / preprocessor.name).write_bytes(preprocessor.read_bytes())
    family = family_of(config, "config.json")
    section = Section(config, "config.json")
    vlm = family.read(section)
    prompt = family.prompt(vlm, section)
    files = synthetic_tokenizer(vlm, family.tokens(vlm), prompt.image_token, family.vocabulary)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    save_file(stored(family.sources(vlm), Synthetic(vlm)), folder / "model.safetensors")
    return folder


def stored(sources: Mapping[str, Source], weights: Weights) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint."""
    parts: dict[str, list[tuple[int, FloatArray]]] = {}
    for canonical, source in sources.items():
        values = undone(weights.read(canonical), source)
        parts.setdefault(source.name, []).append((source.part[0], values))
    return {name: whole(own) for name, own in parts.items()}


def set_at(config: Json, path: str, value: object) -> None:
    *sections, key = path.split(".")
    for section in sections:
        config = config[section]
    config[key] = value


def undone(values: FloatArray, source: Source) -> FloatArray:
    """Canonical values as the checkpoint has them."""
    if source.transform == "add_one":
        values = values - 1
    if source.transform == "transpose":
        values = values.T
    return values if source.stored is None else values.reshape(source.stored)


def whole(parts: list[tuple[int, FloatArray]]) -> torch.Tensor:
    """Tensors that are one in the checkpoint."""
    values = np.concatenate([values for _, values in sorted(parts, key=lambda part: part[0])])
    return torch.from_numpy(np.ascontiguousarray(values)).to(torch.bfloat16)
