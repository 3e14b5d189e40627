"""Tiny random models of every supported architecture, in transformers and in our description."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    PreTrainedModel,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from export.artifact import SCHEMA, Artifact, Manifest
from export.families import family_of
from export.model import Model
from export.quantize.recipe import RECIPES
from export.shapes import shapes
from export.targets import TARGETS
from export.tokenizer import synthetic_tokenizer

VOCAB, IMAGE_TOKEN = 400, 398
CLASSES: Mapping[str, Any] = {
    "idefics3": (Idefics3Config, Idefics3ForConditionalGeneration),
    "smolvlm": (SmolVLMConfig, SmolVLMForConditionalGeneration),
}
TEXT = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": VOCAB,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
VISION = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
CASES: Mapping[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {
    "grouped heads": ("idefics3", {}, {}, 2),
    "one kv head of three": (
        "idefics3",
        {"hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 32},
        {},
        2,
    ),
    "as many kv heads": ("idefics3", {"num_key_value_heads": 4, "rope_theta": 273768.0}, {}, 2),
    "scale 3": ("idefics3", {}, {"image_size": 48}, 3),
    "pixels beyond the last patch": ("idefics3", {}, {"image_size": 36}, 2),
    "narrow rows": ("idefics3", {}, {"hidden_size": 40, "intermediate_size": 72}, 2),
    "smolvlm2": ("smolvlm", {"num_hidden_layers": 2}, {}, 2),
}


class FromTorch:
    """export.weights.Weights over a transformers model in memory."""

    synthetic = False
    origin: Mapping[str, Any] = {}

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config.to_dict()
        family = family_of(config, "config.json")
        vlm = family.read(config)
        self._shapes = shapes(vlm)
        self._names = {name: source.names[0] for name, source in family.sources(vlm).items()}
        self._state = {name: value.numpy() for name, value in model.state_dict().items()}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        return np.ascontiguousarray(self._state[self._names[name]][start:stop])


def hf_model(case: str, seed: int = 0) -> PreTrainedModel:
    """A transformers model with random weights large enough to make every part matter."""
    kind, text, vision, scale = CASES[case]
    config_class, model_class = CLASSES[kind]
    config = config_class(
        text_config=TEXT | text,
        vision_config=VISION | vision,
        scale_factor=scale,
        image_token_id=IMAGE_TOKEN,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = model_class(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
        else:
            parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    return model


def tiny_model(hf: PreTrainedModel) -> Model:
    """Our view of a transformers model, with a synthetic tokenizer."""
    config = hf.config.to_dict()
    family = family_of(config, "config.json")
    vlm = family.read(config)
    edge = vlm.vision.image_size
    sizes = {"size": {"longest_edge": 2 * edge}, "max_image_size": {"longest_edge": edge}}
    files = synthetic_tokenizer(vlm, family.special_tokens)
    image, prompt = family.image(vlm, sizes), family.prompt(vlm)
    return Model("tiny", vlm, image, prompt, FromTorch(hf), files, folder=None)


def tiny_artifact(model: Model, target: str, recipe: str, folder: Path) -> Artifact:
    """Write `model` into `folder` and describe it, without proof or digests."""
    written = TARGETS[target].write(model, RECIPES[recipe], folder, "native")
    for name, content in model.files.items():
        (folder / name).write_bytes(content)
    manifest = Manifest(
        schema=SCHEMA,
        model=model.name,
        origin=model.weights.origin,
        synthetic=model.weights.synthetic,
        vlm=model.vlm,
        image=model.image,
        prompt=model.prompt,
        target=target,
        recipe=recipe,
        layout="native",
        files={},
        components=written.components,
        quantization={},
        details=written.details,
        tools={},
        proof=None,
    )
    return Artifact(folder, manifest)
