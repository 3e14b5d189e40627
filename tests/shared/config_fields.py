"""Every field of transformers' config classes, with another valid value, and what we do about it.

The configs that are changed are tiny_configs.CONFIGS. Three fields have tests of their own:
tie_word_embeddings (test_tied_head), rope_scaling and rope_parameters (test_config).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiny_configs import CONFIGS
from transformers import (
    Gemma3Config,
    Gemma3TextConfig,
    Idefics3Config,
    InternVLConfig,
    InternVLVisionConfig,
    LlamaConfig,
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLTextConfig,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig

Json = dict[str, Any]
ELSEWHERE = {"tie_word_embeddings", "rope_parameters", "text_config", "vision_config"}


@dataclass(frozen=True)
class Fields:
    """Fields of one object of config.json -> a valid value that the tiny config does not have.

    read: the network follows it. refused: one line names it. inert: transformers computes the same
    with it.
    """

    config_class: type[PreTrainedConfig]
    read: Json
    refused: Json
    inert: Json


REFUSED: Json = {"is_encoder_decoder": True, "per_layer_config": {"0": {"hidden_act": "relu"}}}
INERT: Json = {
    "_name_or_path": "x",
    "architectures": ["X"],
    "chunk_size_feed_forward": 1,
    "dtype": "bfloat16",
    "id2label": {"0": "x"},
    "initializer_range": 0.5,
    "label2id": {"x": 0},
    "output_hidden_states": True,
    "problem_type": "regression",
    "return_dict": True,  # false breaks transformers' own classes of several parts
    "tie_last_hidden_states": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.0.0",
}
TEXT_REFUSED: Json = REFUSED | {
    "attention_chunk_size": 2,
    "is_causal": False,
    "kv_sharing_modes": ["share"],
    "layer_types": ["sliding_attention"],
    "partial_rotary_factor": 0.5,
}
TEXT_INERT: Json = INERT | {"attention_dropout": 0.5, "pad_token_id": 3, "use_cache": False}
TEXT: Json = {
    "bos_token_id": 3,
    "eos_token_id": 7,
    "hidden_size": 48,
    "intermediate_size": 56,
    "max_position_embeddings": 512,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 1,
    "rms_norm_eps": 0.1,
    "rope_theta": 100.0,
    "vocab_size": 416,
}
LLAMA = Fields(
    LlamaConfig,
    TEXT | {"head_dim": 16, "hidden_act": "gelu"},
    TEXT_REFUSED
    | {"attention_bias": True, "mlp_bias": True, "model_type": "granite", "sliding_window": 4},
    TEXT_INERT | {"pretraining_tp": 2},
)
QWEN2_INERT = TEXT_INERT | {"max_window_layers": 0, "sliding_window": 4}
QWEN2 = Fields(
    Qwen2Config,
    TEXT | {"head_dim": 16, "hidden_act": "gelu"},
    TEXT_REFUSED | {"model_type": "qwen3", "use_sliding_window": True},
    QWEN2_INERT,
)
QWEN2_5_VL_TEXT = Fields(
    Qwen2_5_VLTextConfig,
    TEXT | {"hidden_act": "gelu", "hidden_size": 64, "num_attention_heads": 2},
    TEXT_REFUSED | {"head_dim": 16, "model_type": "qwen3_vl_text", "use_sliding_window": True},
    QWEN2_INERT,
)
GEMMA3_TEXT = Fields(
    Gemma3TextConfig,
    TEXT
    | {
        "head_dim": 16,
        "hidden_activation": "silu",
        "layer_types": ["full_attention", "full_attention", "sliding_attention"],
        "num_hidden_layers": 4,
        "query_pre_attn_scalar": 8,
        "rope_local_base_freq": 100.0,
        "sliding_window": 3,
        "sliding_window_pattern": 3,
    },
    TEXT_REFUSED
    | {
        "attention_bias": True,
        "attn_logit_softcapping": 1.0,
        "final_logit_softcapping": 1.0,
        "layer_types": ["full_attention", "full_attention", "chunked_attention"],
        "use_bidirectional_attention": True,
    },
    TEXT_INERT | {"_sliding_window_pattern": 3, "cache_implementation": "hybrid"},
)
TOWER: Json = {
    "hidden_act": "silu",
    "hidden_size": 48,
    "image_size": 64,
    "intermediate_size": 56,
    "layer_norm_eps": 0.1,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "patch_size": 16,
}
TOWER_REFUSED: Json = REFUSED | {"num_channels": 1}
IDEFICS3_VISION = Fields(
    Idefics3VisionConfig,
    TOWER,
    TOWER_REFUSED | {"model_type": "clip_vision_model"},
    INERT | {"attention_dropout": 0.5},
)
SIGLIP_VISION = Fields(
    SiglipVisionConfig,
    TOWER,
    TOWER_REFUSED | {"model_type": "siglip2_vision_model"},
    INERT | {"attention_dropout": 0.5, "vision_use_head": False},
)
QWEN2_5_VL_VISION = Fields(
    Qwen2_5_VLVisionConfig,
    {
        "depth": 3,
        "fullatt_block_indexes": [0],
        "hidden_act": "gelu",
        "hidden_size": 48,
        "intermediate_size": 50,
        "num_attention_heads": 4,
        "num_heads": 4,
        "num_hidden_layers": 3,
        "patch_size": 8,
        "spatial_merge_size": 4,
        "temporal_patch_size": 1,
        "window_size": 24,
    },
    REFUSED
    | {
        "head_dim": 8,
        "in_channels": 1,
        "model_type": "qwen3_vl_vision",
        "out_hidden_size": 48,
        "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},
        "rope_theta": 100.0,
    },
    INERT | {"spatial_patch_size": 8, "tokens_per_second": 9},
)
INTERNVL_VISION = Fields(
    InternVLVisionConfig,
    TOWER,
    TOWER_REFUSED
    | {
        "attention_bias": False,
        "model_type": "siglip_vision_model",
        "norm_type": "rms_norm",
        "use_absolute_position_embeddings": False,
        "use_mask_token": True,
        "use_mean_pooling": False,
        "use_qk_norm": True,
    },
    INERT
    | {
        "attention_dropout": 0.5,
        "hidden_dropout_prob": 0.5,
        "layer_scale_init_value": 0.5,
        "projection_dropout": 0.5,
    },
)
TOP_REFUSED: Json = REFUSED | {
    "compression_config": {"quant_method": "compressed-tensors"},
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
}
TOP_INERT: Json = INERT | {"repetition_penalty": 2.0, "use_cache": False}
IDEFICS3 = Fields(
    Idefics3Config,
    {"image_token_id": 397, "scale_factor": 4},
    TOP_REFUSED,
    # What released files have and no code reads.
    TOP_INERT | {"hidden_size": 8, "pad_token_id": 3, "vocab_size": 8},
)
GEMMA3 = Fields(
    Gemma3Config,
    {"image_token_id": 397, "image_token_index": 397, "mm_tokens_per_image": 16},
    TOP_REFUSED,
    TOP_INERT | {"boi_token_id": 9, "boi_token_index": 9, "eoi_token_id": 9, "eoi_token_index": 9},
)
QWEN2_5_VL = Fields(
    Qwen2_5_VLConfig,
    {"image_token_id": 397},
    TOP_REFUSED,
    TOP_INERT | {"video_token_id": 9, "vision_end_token_id": 9, "vision_start_token_id": 9},
)
INTERNVL = Fields(
    InternVLConfig,
    {"downsample_ratio": 0.25, "image_token_id": 397, "projector_hidden_act": "silu"},
    TOP_REFUSED | {"vision_feature_layer": -2, "vision_feature_select_strategy": "full"},
    TOP_INERT | {"image_seq_length": 9},
)


def _nested(flat: Json) -> Json:
    """A config of Qwen2.5-VL as transformers 5 saves it."""
    top = {key: flat[key] for key in ("model_type", "image_token_id", "vision_config")}
    text = {key: value for key, value in flat.items() if key not in top}
    tied = text.pop("tie_word_embeddings")
    return top | {"tie_word_embeddings": tied, "text_config": text}


BASES: Mapping[str, Json] = CONFIGS | {
    "qwen2_5_vl": _nested(CONFIGS["qwen2_5_vl"]),
    "qwen2_5_vl, flat": CONFIGS["qwen2_5_vl"],
}
# Model -> the objects of its config.json; "" is the whole file.
PARTS: Mapping[str, Mapping[str, Fields]] = {
    "smolvlm": {"": IDEFICS3, "text_config": LLAMA, "vision_config": IDEFICS3_VISION},
    "gemma3": {"": GEMMA3, "text_config": GEMMA3_TEXT, "vision_config": SIGLIP_VISION},
    "gemma3, text only": {"": GEMMA3_TEXT},
    "qwen2_5_vl": {
        "": QWEN2_5_VL,
        "text_config": QWEN2_5_VL_TEXT,
        "vision_config": QWEN2_5_VL_VISION,
    },
    "qwen2_5_vl, flat": {"": QWEN2_5_VL_TEXT},
    "internvl": {"": INTERNVL, "text_config": QWEN2, "vision_config": INTERNVL_VISION},
}
WIDE: Json = {"vision_config": {"out_hidden_size": 64}}
SECTIONS: Json = {"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}
# What must change with a field: (model, object, field) -> changes to the whole file.
ALSO: Mapping[tuple[str, str, str], Json] = {
    ("qwen2_5_vl", "text_config", "hidden_size"): {**WIDE, "text_config": SECTIONS},
    ("qwen2_5_vl", "text_config", "num_attention_heads"): {"text_config": SECTIONS},
    ("qwen2_5_vl, flat", "", "hidden_size"): WIDE | SECTIONS,
    ("qwen2_5_vl, flat", "", "num_attention_heads"): SECTIONS,
}


def changed(model: str, *changes: Json) -> Json:
    """The tiny config of `model` with keys replaced, object by object."""
    config = dict(BASES[model])
    for change in changes:
        for key, value in change.items():
            inner = isinstance(value, dict) and key in ("text_config", "vision_config")
            config[key] = {**config.get(key, {}), **value} if inner else value
    return config


def within(part: str, values: Json) -> Json:
    """Changes of one object, as changes of the whole file."""
    return {part: values} if part else values
