"""Tiny random models of every supported architecture, in transformers and in our description."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from export.artifact import Artifact
from export.checkpoint import check
from export.checkpoint.folder import values
from export.checkpoint.tokenizer import synthetic_tokenizer
from export.families import family_of
from export.families.section import Section
from export.manifest import SCHEMA, Manifest
from export.model import Model
from export.modeling.qwen_vit import QwenVit
from export.modeling.vlm import Vlm, shapes
from export.quantize.recipe import RECIPES
from export.targets import TARGETS

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
    "scale 3, positions divided by 4": (
        "idefics3",
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {"image_size": 48},
        3,
    ),
    "pixels beyond the last patch": ("idefics3", {}, {"image_size": 36}, 2),
    "narrow rows": ("idefics3", {}, {"hidden_size": 40, "intermediate_size": 72}, 2),
    "smolvlm2": ("smolvlm", {"num_hidden_layers": 2}, {}, 2),
}

# Gemma 3: changes to the text model, to the tower, and tokens of an image.
GEMMA3_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": VOCAB,
    "max_position_embeddings": 256,
    "query_pre_attn_scalar": 24,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    "sliding_window": 12,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
GEMMA3_VISION = VISION | {
    "model_type": "siglip_vision_model",
    "image_size": 48,
    "vision_use_head": False,
}
GEMMA3_CASES: Mapping[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "five local layers to a global one": ({}, {}, 9),
    "a window narrower than an image": (
        {"sliding_window": 5, "num_hidden_layers": 3, "sliding_window_pattern": 2},
        {},
        9,
    ),
    "named layer types": (
        {
            "num_hidden_layers": 3,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "rope_scaling": None,
            "rope_local_base_freq": 5e3,
            "num_key_value_heads": 1,
        },
        {"hidden_size": 40, "intermediate_size": 72},
        4,
    ),
}
# Gemma 3 for text alone: changes to the text model.
GEMMA3_TEXT_CASES: Mapping[str, dict[str, Any]] = {
    "text alone": {"rope_scaling": None, "num_key_value_heads": 1, "query_pre_attn_scalar": 16},
    "text alone, a window of 5": {"sliding_window": 5, "num_hidden_layers": 3},
    "text alone, every other layer local": {
        "num_hidden_layers": 4,
        "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 16,
    },
}

# Qwen2.5-VL: changes to the text model and to the tower.
QWEN_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
QWEN_VISION = {
    "depth": 4,
    "hidden_size": 64,
    "intermediate_size": 90,
    "num_heads": 4,
    "out_hidden_size": 64,
    "patch_size": 4,
    "spatial_patch_size": 4,
    "window_size": 16,
    "fullatt_block_indexes": [1, 3],
}
QWEN_CASES: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "windows of 2 x 2 squares": ({}, {}),
    "windows of 3 x 3 squares, one full layer, positions divided by 4": (
        {
            "num_key_value_heads": 1,
            "rope_parameters": {
                "rope_type": "linear",
                "factor": 4.0,
                "rope_theta": 1e6,
                "mrope_section": [2, 3, 3],
            },
        },
        {"window_size": 24, "fullatt_block_indexes": [2], "intermediate_size": 160},
    ),
}

# InternVL3: changes to the text model and to the tower.
INTERNVL_TEXT = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
INTERNVL_VISION = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": [32, 32],
    "patch_size": [8, 8],
    "attention_bias": True,
}
INTERNVL_CASES: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a class token and layer scales": ({}, {}),
    "a class token, narrow rows, positions divided by 4": (
        {
            "num_key_value_heads": 1,
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
            "tie_word_embeddings": True,
        },
        {"hidden_size": 40, "intermediate_size": 72, "image_size": 48},
    ),
}


class FromTorch:
    """export.weights.Weights over a transformers model in memory."""

    synthetic = False
    origin: Mapping[str, Any] = {}

    def __init__(self, model: PreTrainedModel, config: Mapping[str, Any] | None = None) -> None:
        config = config or model.config.to_dict()
        family = family_of(config, "config.json")
        vlm = family.read(Section(config, "config.json"))
        self._shapes = shapes(vlm)
        self._sources = family.sources(vlm)
        state = {name: value.numpy() for name, value in model.state_dict().items()}
        self._state = check.renamed(state, family.prefixes, "the model")

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:

        def rows(stored: str, first: int, last: int | None) -> np.ndarray:
            return self._state[stored][first:last].copy()

        found = values(self._sources[name], self._shapes[name], rows, start, stop)
        return np.ascontiguousarray(found)


def hf_model(case: str, seed: int = 0, **text: Any) -> PreTrainedModel:
    """A transformers model with random weights large enough to make every part matter.

    `text`: further changes to the case's text_config.
    """
    torch.manual_seed(seed)
    return randomized(_made(case, text))


def randomized(made: PreTrainedModel) -> PreTrainedModel:
    model = made.eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            centre = 0.0 if _multiplies_by_one_more(model, name) else 1.0
            parameter.copy_(centre + 0.3 * torch.randn_like(parameter))
        else:
            parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    return model


def _made(case: str, text: Mapping[str, Any]) -> PreTrainedModel:
    if case in GEMMA3_CASES:
        return _gemma3(case, text)
    if case in GEMMA3_TEXT_CASES:
        config = Gemma3TextConfig(
            **(GEMMA3_TEXT | GEMMA3_TEXT_CASES[case] | text), tie_word_embeddings=True
        )
        return Gemma3ForCausalLM(config)
    if case in INTERNVL_CASES:
        return _internvl(case, text)
    return _qwen(case, text) if case in QWEN_CASES else _smolvlm(case, text)


def _multiplies_by_one_more(model: PreTrainedModel, name: str) -> bool:
    return model.config.model_type.startswith("gemma3") and name.endswith("norm.weight")


def _gemma3(case: str, changes: Mapping[str, Any]) -> PreTrainedModel:
    text, vision, tokens = GEMMA3_CASES[case]
    config = Gemma3Config(
        text_config=GEMMA3_TEXT | text | changes,
        vision_config=GEMMA3_VISION | vision,
        mm_tokens_per_image=tokens,
        image_token_index=IMAGE_TOKEN,
        boi_token_index=IMAGE_TOKEN - 2,
        eoi_token_index=IMAGE_TOKEN - 1,
        eos_token_id=[1],
    )
    return Gemma3ForConditionalGeneration(config)


def _qwen(case: str, changes: Mapping[str, Any]) -> PreTrainedModel:
    text, vision = QWEN_CASES[case]
    ids = {"image_token_id": IMAGE_TOKEN, "video_token_id": IMAGE_TOKEN + 1}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config=QWEN_TEXT | text | changes, vision_config=QWEN_VISION | vision, **ids,
            vision_start_token_id=IMAGE_TOKEN - 3, vision_end_token_id=IMAGE_TOKEN - 2,
            tie_word_embeddings=True,
        )
    )  # fmt: skip


def _internvl(case: str, changes: Mapping[str, Any]) -> PreTrainedModel:
    text, vision = INTERNVL_CASES[case]
    config = InternVLConfig(
        text_config=INTERNVL_TEXT | text | changes,
        vision_config=INTERNVL_VISION | vision,
        image_token_id=IMAGE_TOKEN,
        tie_word_embeddings=text.get("tie_word_embeddings", False),
    )
    return InternVLForConditionalGeneration(config)


def _smolvlm(case: str, changes: Mapping[str, Any]) -> PreTrainedModel:
    kind, text, vision, scale = CASES[case]
    config_class, model_class = CLASSES[kind]
    config = config_class(
        text_config=TEXT | text | changes,
        vision_config=VISION | vision,
        scale_factor=scale,
        image_token_id=IMAGE_TOKEN,
        tie_word_embeddings=False,
    )
    return model_class(config)


def tiny_model(hf: PreTrainedModel, config: Mapping[str, Any] | None = None) -> Model:
    """Our view of a transformers model, with a synthetic tokenizer; None: of its own config."""
    config = config or hf.config.to_dict()
    family = family_of(config, "config.json")
    vlm = check.numbers(family.read(Section(config, "config.json")), "config.json")
    prompt = family.prompt(vlm, Section(config, "config.json"))
    files = synthetic_tokenizer(vlm, family.tokens(vlm), prompt.image_token, family.vocabulary)
    weights = FromTorch(hf, config)
    if vlm.vision is None:
        return Model("tiny", vlm, None, prompt, weights, files, folder=None)
    image = family.image(vlm, Section(_preprocessor(vlm), "preprocessor_config.json"))
    return Model("tiny", vlm, image, prompt, weights, files, folder=None)


def _preprocessor(vlm: Vlm) -> dict[str, Any]:
    tower = vlm.require_vision().tower
    edge = tower.image_size
    stretch = {"size": {"height": edge, "width": edge}}
    if isinstance(tower, QwenVit):
        return {
            "min_pixels": 1,
            "max_pixels": edge**2,
            "patch_size": tower.patch_size,
            "merge_size": tower.spatial_merge_size,
            "temporal_patch_size": tower.temporal_patch_size,
        }
    if vlm.family == "smolvlm":
        return {"size": {"longest_edge": 2 * edge}, "max_image_size": {"longest_edge": edge}}
    return stretch | {"max_patches": 6} if vlm.family == "internvl" else stretch


def tiny_artifact(
    model: Model, target: str, recipe: str, folder: Path, layout: str = "native"
) -> Artifact:
    """Write `model` into `folder` and describe it, without proof or digests."""
    written = TARGETS[target].write(model, RECIPES[recipe], folder, layout)
    for name, content in TARGETS[target].client_files(model, RECIPES[recipe], layout).items():
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
        recipe_used=RECIPES[recipe].used,
        layout=layout,
        files={},
        components=written.components,
        quantization=written.quantization,
        details=written.details,
        tools={},
        proof=None,
    )
    return Artifact(folder, manifest)
