"""Writes a model's text decoder alone as a checkpoint of transformers' LlamaForCausalLM.

That is what other projects' exporters take of our families, random weights included. It needs
neither torch nor transformers.
"""

import json
from dataclasses import MISSING, fields
from pathlib import Path

from export.errors import UserError
from export.families import FAMILIES
from export.model import Model
from export.modeling.decoder import Decoder
from export.modeling.vlm import component

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def decoder_names(model: Model) -> dict[str, str]:
    """Maps our name of each text tensor to its name in a checkpoint of LlamaForCausalLM."""
    sources = FAMILIES[model.vlm.family].sources(model.vlm)
    return {
        name: source.name.replace("model.text_model.", "model.")
        for name, source in sources.items()
        if component(name) != "vision"
    }


def expect_llama(text: Decoder) -> None:
    """Raises UserError unless the decoder is a Llama: each optional field has its default."""
    for field in fields(text):
        if field.default is not MISSING and getattr(text, field.name) != field.default:
            raise UserError(
                f"the decoder has {field.name}, but peers get only Llama's decoder from us"
            )


def write_decoder_checkpoint(model: Model, folder: Path) -> None:
    """Writes the text decoder to a folder, as transformers would save it.

    Raises UserError for a decoder that is no Llama.
    """
    from safetensors.numpy import save_file

    expect_llama(model.vlm.text)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(_config(model.vlm.text), indent=1))
    names = decoder_names(model)
    tensors = {hub: model.weights.read(name) for name, hub in names.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for name in TOKENIZER:
        if name in model.files:
            (folder / name).write_bytes(model.files[name])


def _config(text: Decoder) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": text.vocab,
        "hidden_size": text.hidden,
        "intermediate_size": text.intermediate,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "num_key_value_heads": text.kv_heads,
        "head_dim": text.head_dim,
        "max_position_embeddings": text.context,
        "rms_norm_eps": text.norm_eps,
        "rope_theta": text.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": text.rope_theta},
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": text.tied,
        "dtype": "float32",
    }
