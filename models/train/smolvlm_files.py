"""The files of a SmolVLM checkpoint as the hub has them: same names, same keys, toy values.

Modelled on HuggingFaceTB/SmolVLM-256M-Instruct, saved by transformers 4.46. transformers 5 would
write other keys (`rope_parameters`, `dtype`), so every file is written here.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import nn

IMAGE_SIZE = 64
PATCH_SIZE = 8
SCALE_FACTOR = 2  # pixel shuffle: 8 x 8 patches to 4 x 4 image tokens
GRID = IMAGE_SIZE // PATCH_SIZE // SCALE_FACTOR
WIDTH = 128
HEADS = 4
POSITIONS = 512
VOCABULARY = 416
FIRST_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")  # ids 0, 1, 2
LAST_TOKENS = (
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
)
CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
SPECIAL = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
Json = dict[str, Any]


def write(model: nn.Module, tokenizer: Tokenizer, folder: Path) -> None:
    """All files of the checkpoint, weights in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
    }
    (folder / "model.safetensors").write_bytes(save(state, metadata={"format": "pt"}))
    tokenizer.save(str(folder / "tokenizer.json"))
    bpe = json.loads(tokenizer.to_str())["model"]
    _write_text(
        folder / "vocab.json", json.dumps(bpe["vocab"], ensure_ascii=False, separators=(",", ":"))
    )
    merges = [" ".join(pair) for pair in bpe["merges"]]
    _write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    for name, content in json_files(tokenizer).items():
        text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True)
        end = "" if name == "chat_template.json" else "\n"  # as in the hub's file
        _write_text(folder / name, text + end)


def json_files(tokenizer: Tokenizer) -> dict[str, Json]:
    return {
        "added_tokens.json": {token: tokenizer.token_to_id(token) for token in LAST_TOKENS},
        "chat_template.json": {"chat_template": CHAT_TEMPLATE},
        "config.json": config(tokenizer),
        "generation_config.json": {
            "_from_model_config": True,
            "bos_token_id": 0,
            "eos_token_id": tokenizer.token_to_id("<end_of_utterance>"),
            "pad_token_id": 2,
            "transformers_version": "4.46.0",
        },
        "preprocessor_config.json": preprocessor_config(),
        "processor_config.json": {
            "image_seq_len": GRID * GRID,
            "processor_class": "Idefics3Processor",
        },
        "special_tokens_map.json": special_tokens_map(),
        "tokenizer_config.json": tokenizer_config(tokenizer),
    }


def config(tokenizer: Tokenizer) -> Json:
    return {
        "architectures": ["Idefics3ForConditionalGeneration"],
        "hidden_size": WIDTH,
        "image_token_id": tokenizer.token_to_id("<image>"),
        "model_type": "idefics3",
        "scale_factor": SCALE_FACTOR,
        "text_config": _text_config(),
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.46.0",
        "use_cache": True,
        "vision_config": _vision_config(),
        "vocab_size": VOCABULARY,
    }


def _text_config() -> Json:
    return {
        "architectures": ["VLlama3ForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": WIDTH // HEADS,
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "is_llama_config": True,
        "max_position_embeddings": POSITIONS,
        "model_type": "llama",
        "neftune_noise_alpha": 0.0,
        "num_attention_heads": HEADS,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "pad_token_id": 2,
        "pixel_shuffle_factor": SCALE_FACTOR,
        "qk_layer_norms": False,
        "rms_norm_eps": 1e-05,
        "rope_interleaved": False,
        "rope_scaling": None,
        "rope_theta": 100000,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_resampler": False,
        "vocab_size": VOCABULARY,
    }


def _vision_config() -> Json:
    return {
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": WIDTH,
        "image_size": IMAGE_SIZE,
        "intermediate_size": 3 * WIDTH,
        "layer_norm_eps": 1e-06,
        "max_image_size": {"longest_edge": IMAGE_SIZE},
        "model_type": "idefics3_vision",
        "num_attention_heads": HEADS,
        "num_channels": 3,
        "num_hidden_layers": 4,
        "patch_size": PATCH_SIZE,
        "size": {"longest_edge": IMAGE_SIZE},
        "tie_word_embeddings": False,
        "use_base_siglip": True,
    }


def preprocessor_config() -> Json:
    """An image of 64 x 64 stays one tile: the real model scales up to 2048 and cuts 512s."""
    return {
        "do_convert_rgb": True,
        "do_image_splitting": True,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "Idefics3ImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "max_image_size": {"longest_edge": IMAGE_SIZE},
        "processor_class": "Idefics3Processor",
        "resample": 1,
        "rescale_factor": 0.00392156862745098,
        "size": {"longest_edge": IMAGE_SIZE},
    }


def special_tokens_map() -> Json:
    named = {
        "bos": "<|im_start|>",
        "eos": "<|im_end|>",
        "pad": "<|im_end|>",
        "unk": "<|endoftext|>",
    }
    return {
        "additional_special_tokens": [{"content": token, **SPECIAL} for token in LAST_TOKENS[-3:]],
        **{f"{name}_token": {"content": token, **SPECIAL} for name, token in named.items()},
    }


def tokenizer_config(tokenizer: Tokenizer) -> Json:
    # eos differs from special_tokens_map on purpose: the real files do.
    return {
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): {"content": token, **SPECIAL, "special": True}
            for token in (*FIRST_TOKENS, *LAST_TOKENS)
        },
        "additional_special_tokens": list(LAST_TOKENS[-3:]),
        "bos_token": "<|im_start|>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<end_of_utterance>",
        "legacy": False,
        "model_max_length": POSITIONS,
        "pad_token": "<|im_end|>",
        "processor_class": "Idefics3Processor",
        "tokenizer_class": "GPT2Tokenizer",
        "truncation_side": "left",
        "unk_token": "<|endoftext|>",
        "vocab_size": VOCABULARY,
    }


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
