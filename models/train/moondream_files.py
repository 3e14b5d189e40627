"""The files of a Moondream checkpoint as the hub has them: same names, same keys, toy values.

Modelled on vikhyatk/moondream2 (2025-04-14) and on the 0.5B's config.json, which spells out what
the 2B's leaves to the author's code. Of that code nothing is here, so `auto_map` is left out.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor

from export.families.moondream import MOONDREAM
from export.families.section import Section

CROP, PATCH, WIDTH, HEADS, LAYERS = 64, 8, 128, 4, 4
GRID = CROP // PATCH
VOCABULARY = 448  # the last row is no token: it stands for the image and for places
TOKENS = VOCABULARY - 1
END = "<|endoftext|>"  # begins every prompt and ends every answer
PREFIXES = {"query": "\n\nQuestion:", "detect": "\n\nDetect:", "point": "\n\nPoint:"}
SUFFIXES = {"query": "\n\nAnswer:", "detect": "\n\n", "point": "\n\n"}
Json = dict[str, Any]


def config(tokenizer: Tokenizer) -> Json:
    end = tokenizer.token_to_id(END)
    templates: Json = {
        task: {
            "prefix": tokenizer.encode(PREFIXES[task]).ids,
            "suffix": tokenizer.encode(SUFFIXES[task]).ids,
        }
        for task in PREFIXES
    }
    return {
        "architectures": ["HfMoondream"],
        "config": {
            "text": {
                "dim": WIDTH,
                "ff_dim": 3 * WIDTH,
                "n_layers": LAYERS,
                "vocab_size": VOCABULARY,
                "max_context": 512,
                "n_heads": HEADS,
                "prefix_attn": 1 + GRID**2,
                "n_kv_heads": HEADS,
            },
            "vision": {
                "enc_dim": WIDTH,
                "enc_patch_size": PATCH,
                "enc_n_layers": LAYERS,
                "enc_ff_dim": 3 * WIDTH,
                "enc_n_heads": HEADS,
                "proj_out_dim": WIDTH,
                "crop_size": CROP,
                "in_channels": 3,
                "max_crops": 12,
                "overlap_margin": 1,
                "proj_inner_dim": 2 * WIDTH,
            },
            "region": {
                "dim": WIDTH,
                "coord_feat_dim": 64,
                "coord_out_dim": 128,
                "size_feat_dim": 128,
                "size_out_dim": 2048,
                "inner_dim": 2 * WIDTH,
            },
            # No captions: it never saw any.
            "tokenizer": {"bos_id": end, "eos_id": end, "templates": {**templates, "caption": {}}},
        },
        "model_type": "moondream1",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.44.0",
    }


def json_files(tokenizer: Tokenizer) -> dict[str, Json]:
    named = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END)
    end = tokenizer.token_to_id(END)
    special = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {
        "config.json": config(tokenizer),
        "generation_config.json": {
            "_from_model_config": True,
            "bos_token_id": end,
            "eos_token_id": end,
            "transformers_version": "4.44.0",
        },
        "special_tokens_map.json": dict(named),
        "tokenizer_config.json": {
            "add_prefix_space": False,
            "added_tokens_decoder": {str(end): {"content": END, **special, "special": True}},
            **named,
            "clean_up_tokenization_spaces": True,
            "model_max_length": 512,
            "tokenizer_class": "CodeGenTokenizer",
        },
    }


def write(tensors: dict[str, Tensor], tokenizer: Tokenizer, folder: Path) -> None:
    """All files of the checkpoint, weights in bfloat16; `tensors` by canonical name."""
    folder.mkdir(parents=True, exist_ok=True)
    state = stored(tensors, config(tokenizer))
    (folder / "model.safetensors").write_bytes(save(state, metadata={"format": "pt"}))
    tokenizer.save(str(folder / "tokenizer.json"))
    bpe = json.loads(tokenizer.to_str())["model"]
    merges = [" ".join(pair) for pair in bpe["merges"]]
    _write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    _write_text(folder / "vocab.json", json.dumps(bpe["vocab"], ensure_ascii=False))
    for name, content in json_files(tokenizer).items():
        text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True)
        _write_text(folder / name, text + "\n")


def stored(tensors: dict[str, Tensor], config: Json) -> dict[str, Tensor]:
    """The tensors by the names and in the shapes of a checkpoint."""
    parts: dict[str, list[Tensor]] = {}
    for name, source in MOONDREAM.sources(MOONDREAM.read(Section(config, "config.json"))).items():
        values = tensors[name].detach().to(torch.bfloat16)
        values = values.T if source.transform == "transpose" else values
        parts.setdefault(source.name, []).append(values.reshape(source.stored or values.shape))
    return {name: torch.cat(some).contiguous() for name, some in parts.items()}


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
