"""The files of a Qwen2.5-VL checkpoint as the hub has them: same names, same keys, toy values.

Modelled on Qwen/Qwen2.5-VL-3B-Instruct, saved by transformers 4.41. transformers 5 would write
other tensor names and keys, so every file is written here.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import nn

from export.families.qwen2_5_vl import QWEN2_5_VL

PATCH_SIZE = 14
MERGE = 2
FRAMES = 2
IMAGE_SIZE = 112  # one window
GRID = IMAGE_SIZE // PATCH_SIZE // MERGE
WIDTH = 128
HEADS = 4
POSITIONS = 512
TOKENS = 440
VOCABULARY = 448  # rows beyond the tokenizer's, as in the real model
LAST_TOKENS = QWEN2_5_VL.special_tokens
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
Json = dict[str, Any]
# An image of 64 x 64 is enlarged to 112 x 112.
PREPROCESSOR: Json = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "Qwen2VLImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "max_pixels": 4 * IMAGE_SIZE**2,
    "merge_size": MERGE,
    "min_pixels": IMAGE_SIZE**2,
    "patch_size": PATCH_SIZE,
    "processor_class": "Qwen2_5_VLProcessor",
    "temporal_patch_size": FRAMES,
}


def write(model: nn.Module, tokenizer: Tokenizer, folder: Path) -> None:
    """All files of the checkpoint, weights in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        hub_name(name): tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"  # tied
    }
    (folder / "model.safetensors").write_bytes(save(state, metadata={"format": "pt"}))
    tokenizer.save(str(folder / "tokenizer.json"))
    bpe = json.loads(tokenizer.to_str())["model"]
    merges = [" ".join(pair) for pair in bpe["merges"]]
    _write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    _write_text(folder / "vocab.json", json.dumps(bpe["vocab"], ensure_ascii=False))
    for name, content in json_files(tokenizer).items():
        text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True)
        _write_text(folder / name, text + "\n")


def hub_name(name: str) -> str:
    """A parameter's name in the checkpoint."""
    for ours, theirs in (("model.language_model.", "model."), ("model.visual.", "visual.")):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise ValueError(f"no name on the hub is known for {name}")


def json_files(tokenizer: Tokenizer) -> dict[str, Json]:
    ids = {token: tokenizer.token_to_id(token) for token in LAST_TOKENS}
    return {
        "chat_template.json": {"chat_template": CHAT_TEMPLATE},
        "config.json": config(tokenizer),
        "generation_config.json": {
            "bos_token_id": ids["<|endoftext|>"],
            "do_sample": False,
            "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
            "pad_token_id": ids["<|endoftext|>"],
            "transformers_version": "4.49.0",
        },
        "preprocessor_config.json": PREPROCESSOR,
        "tokenizer_config.json": tokenizer_config(tokenizer),
    }


def config(tokenizer: Tokenizer) -> Json:
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "image_token_id": tokenizer.token_to_id("<|image_pad|>"),
        "initializer_range": 0.02,
        "intermediate_size": 3 * WIDTH,
        "max_position_embeddings": POSITIONS,
        "max_window_layers": 4,
        "model_type": "qwen2_5_vl",
        "num_attention_heads": HEADS,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {"mrope_section": [4, 6, 6], "type": "mrope"},
        "rope_theta": 1000000.0,
        "sliding_window": POSITIONS,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.41.2",
        "use_cache": True,
        "use_sliding_window": False,
        "video_token_id": tokenizer.token_to_id("<|video_pad|>"),
        "vision_config": _vision_config(),
        "vision_end_token_id": tokenizer.token_to_id("<|vision_end|>"),
        "vision_start_token_id": tokenizer.token_to_id("<|vision_start|>"),
        "vision_token_id": tokenizer.token_to_id("<|vision_pad|>"),
        "vocab_size": VOCABULARY,
    }


def _vision_config() -> Json:
    return {
        "depth": 4,
        "fullatt_block_indexes": [1, 3],
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "in_chans": 3,
        "intermediate_size": 340,  # no multiple of 32, like the real 3420
        "num_heads": HEADS,
        "out_hidden_size": WIDTH,
        "patch_size": PATCH_SIZE,
        "spatial_merge_size": MERGE,
        "spatial_patch_size": PATCH_SIZE,
        "temporal_patch_size": FRAMES,
        "tokens_per_second": 2,
        "window_size": IMAGE_SIZE,
    }


def tokenizer_config(tokenizer: Tokenizer) -> Json:
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): {"content": token, **SPECIAL, "special": True}
            for token in LAST_TOKENS
        },
        "additional_special_tokens": list(LAST_TOKENS[1:]),
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": POSITIONS,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
