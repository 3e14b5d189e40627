"""A tiny config.json and preprocessor_config.json of every family, and of one without images.

Sizes are the least that have every part of the family: more heads than kv heads, a layer of each
kind, a vocabulary that holds the special tokens.
"""

import copy
from collections.abc import Mapping
from typing import Any

from tests.export.checkpoints import CONFIG, PREPROCESSOR

Json = dict[str, Any]

GEMMA3: Json = {
    "model_type": "gemma3",
    "mm_tokens_per_image": 4,
    "image_token_index": 398,
    "eos_token_id": [1, 395],
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 400,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "sliding_window": 12,
        "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 24,
        "bos_token_id": 2,
    },
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
}
QWEN2_5_VL: Json = {  # flat, as on the hub
    "model_type": "qwen2_5_vl",
    "image_token_id": 398,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 400,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
    "bos_token_id": 1,
    "eos_token_id": 2,
    "vision_config": {
        "depth": 2,
        "hidden_act": "silu",
        "hidden_size": 32,
        "intermediate_size": 45,
        "num_heads": 2,
        "in_chans": 3,
        "out_hidden_size": 32,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    },
}
MOONDREAM: Json = {
    "model_type": "moondream1",
    "config": {
        "text": {
            "dim": 32,
            "ff_dim": 48,
            "n_layers": 1,
            "n_heads": 4,
            "n_kv_heads": 2,
            "vocab_size": 400,
            "max_context": 256,
            "prefix_attn": 17,
        },
        "vision": {
            "enc_dim": 32,
            "enc_n_layers": 1,
            "enc_ff_dim": 40,
            "enc_n_heads": 2,
            "enc_patch_size": 8,
            "crop_size": 32,
            "max_crops": 6,
            "overlap_margin": 1,
            "in_channels": 3,
            "proj_out_dim": 32,
            "proj_inner_dim": 48,
        },
        "region": {
            "dim": 32,
            "inner_dim": 40,
            "coord_feat_dim": 8,
            "coord_out_dim": 16,
            "size_feat_dim": 12,
            "size_out_dim": 32,
        },
        "tokenizer": {
            "bos_id": 300,
            "eos_id": 300,
            "templates": {
                "caption": {"normal": [10, 11], "short": [10, 12]},
                "query": {"prefix": [10, 20], "suffix": [10]},
                "detect": {"prefix": [10, 21], "suffix": [10]},
                "point": {"prefix": [10, 22], "suffix": [10]},
            },
        },
    },
}
INTERNVL: Json = {
    "model_type": "internvl",
    "image_token_id": 398,
    "tie_word_embeddings": False,
    "text_config": {
        "model_type": "qwen2",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 400,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": [32, 32],
        "patch_size": [8, 8],
        "attention_bias": True,
    },
}
CONFIGS: Mapping[str, Json] = {
    "smolvlm": CONFIG,
    "gemma3": GEMMA3,
    "gemma3, text only": GEMMA3["text_config"] | {"model_type": "gemma3_text"},
    "moondream": MOONDREAM,
    "qwen2_5_vl": QWEN2_5_VL,
    "internvl": INTERNVL,
}
MEANS: Json = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
PREPROCESSORS: Mapping[str, Json] = {
    "smolvlm": PREPROCESSOR,
    "gemma3": {"size": {"height": 32, "width": 32}, "rescale_factor": 1 / 255, **MEANS},
    "gemma3, text only": {},
    "moondream": {},
    "internvl": {"size": {"height": 32, "width": 32}, "max_patches": 6, **MEANS},
    "qwen2_5_vl": {
        "min_pixels": 64,
        "max_pixels": 4096,
        "patch_size": 4,
        "merge_size": 2,
        "temporal_patch_size": 2,
        **MEANS,
    },
}


def _with_wide_heads(config: Json) -> Json:
    """The config with fewer heads, each twice as wide, or four times where half of it rotates."""
    made = copy.deepcopy(config)
    inner = made.get("config", {}).get("text") or made.get("text_config") or made
    if "n_heads" in inner:
        inner |= {"n_heads": 1, "n_kv_heads": 1}
        return made
    inner["num_attention_heads"] //= 2
    if "head_dim" in inner:
        inner["head_dim"] = 16
    if inner.get("rope_scaling", {}).get("type") == "mrope":
        inner["rope_scaling"]["mrope_section"] = [2, 2, 4]
    return made


RUNNABLE: Mapping[str, Json] = {name: _with_wide_heads(one) for name, one in CONFIGS.items()}
"""The same with heads of a size that ONNX Runtime's kernels take."""
