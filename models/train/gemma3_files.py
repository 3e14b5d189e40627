"""The files of a Gemma 3 checkpoint as the hub has them: same names, same keys, toy values.

Modelled on google/gemma-3-4b-it, saved by transformers 4.50. transformers 5 would write other
tensor names and keys, so every file is written here.
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
POOL = 2  # 8 x 8 patches to 4 x 4 image tokens
GRID = IMAGE_SIZE // PATCH_SIZE // POOL
WIDTH = 128
HEADS = 4
LAYERS = 6  # five local, one global
WINDOW = 64
POSITIONS = 512
VOCABULARY = 576
FIRST_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>")  # ids 0 to 3
LAST_TOKENS = (
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) }}"
    "{{ '\\n' }}{% for item in message['content'] %}"
    "{% if item['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% elif item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}{% endfor %}"
    "{{ '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
# Names in memory of transformers 5 -> names on the hub.
NAMES = (
    ("model.language_model.", "language_model.model."),
    ("model.vision_tower.vision_model.", "vision_tower.vision_model."),
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
)
SPECIAL = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
Json = dict[str, Any]


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
    for name, content in json_files(tokenizer).items():
        text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def hub_name(name: str) -> str:
    """A parameter's name in the checkpoint."""
    for ours, theirs in NAMES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise ValueError(f"no name on the hub is known for {name}")


def json_files(tokenizer: Tokenizer) -> dict[str, Json]:
    ends = [tokenizer.token_to_id(token) for token in ("<eos>", "<end_of_turn>")]
    return {
        "added_tokens.json": {"<image_soft_token>": tokenizer.token_to_id("<image_soft_token>")},
        "chat_template.json": {"chat_template": CHAT_TEMPLATE},
        "config.json": config(tokenizer),
        "generation_config.json": {
            "bos_token_id": 2,
            "eos_token_id": ends,
            "pad_token_id": 0,
            "transformers_version": "4.50.0.dev0",
        },
        "preprocessor_config.json": preprocessor_config(),
        "processor_config.json": {
            "image_seq_length": GRID * GRID,
            "processor_class": "Gemma3Processor",
        },
        "special_tokens_map.json": special_tokens_map(),
        "tokenizer_config.json": tokenizer_config(tokenizer),
    }


def config(tokenizer: Tokenizer) -> Json:
    """What the hub's file leaves to its class's defaults is written: a toy has other numbers."""
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "boi_token_index": tokenizer.token_to_id("<start_of_image>"),
        "eoi_token_index": tokenizer.token_to_id("<end_of_image>"),
        "eos_token_id": [1, tokenizer.token_to_id("<end_of_turn>")],
        "image_token_index": tokenizer.token_to_id("<image_soft_token>"),
        "initializer_range": 0.02,
        "mm_tokens_per_image": GRID * GRID,
        "model_type": "gemma3",
        "text_config": _text_config(),
        "torch_dtype": "bfloat16",
        "transformers_version": "4.50.0.dev0",
        "vision_config": {
            "hidden_size": WIDTH,
            "image_size": IMAGE_SIZE,
            "intermediate_size": 3 * WIDTH,
            "model_type": "siglip_vision_model",
            "num_attention_heads": HEADS,
            "num_hidden_layers": 4,
            "patch_size": PATCH_SIZE,
            "vision_use_head": False,
        },
    }


def _text_config() -> Json:
    return {
        "head_dim": WIDTH // HEADS,
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "max_position_embeddings": POSITIONS,
        "model_type": "gemma3_text",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": 2,
        "query_pre_attn_scalar": WIDTH // HEADS,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "rope_theta": 1000000.0,
        "sliding_window": WINDOW,
        "sliding_window_pattern": 6,
        "vocab_size": VOCABULARY,
    }


def preprocessor_config() -> Json:
    return {
        "do_convert_rgb": None,
        "do_normalize": True,
        "do_pan_and_scan": None,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "Gemma3ImageProcessor",
        "image_seq_length": GRID * GRID,
        "image_std": [0.5, 0.5, 0.5],
        "pan_and_scan_max_num_crops": None,
        "pan_and_scan_min_crop_size": None,
        "pan_and_scan_min_ratio_to_activate": None,
        "processor_class": "Gemma3Processor",
        "resample": 2,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    }


def special_tokens_map() -> Json:
    named = {name: {"content": f"<{name}>", **SPECIAL} for name in ("bos", "eos", "pad", "unk")}
    return {
        **{f"{name}_token": token for name, token in named.items()},
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }


def tokenizer_config(tokenizer: Tokenizer) -> Json:
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): {"content": token, **SPECIAL, "special": True}
            for token in (*FIRST_TOKENS, *LAST_TOKENS)
        },
        "boi_token": "<start_of_image>",
        "bos_token": "<bos>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eoi_token": "<end_of_image>",
        "eos_token": "<eos>",
        "image_token": "<image_soft_token>",
        "model_max_length": POSITIONS,
        "pad_token": "<pad>",
        "processor_class": "Gemma3Processor",
        "sp_model_kwargs": None,
        "spaces_between_special_tokens": False,
        "tokenizer_class": "GemmaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }
