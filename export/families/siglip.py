"""Reads the vision encoder SigLIP for several families: hyperparameters and tensor names."""

from collections.abc import Mapping
from dataclasses import replace

from export.families.config import ACTIVATIONS, COMMON
from export.families.section import Section
from export.modeling.vit import Vit

TOP: Mapping[str, str] = {
    "v.patch_embd": "embeddings.patch_embedding",
    "v.position_embd": "embeddings.position_embedding",
    "v.post_ln": "post_layernorm",
}
BLOCK: Mapping[str, str] = {
    "ln1": "layer_norm1",
    "ln2": "layer_norm2",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}


def tower(config: Section, defaults: Vit) -> Vit:
    """Reads the vision encoder's hyperparameters from vision_config; absent keys: `defaults`.

    Raises UserError.
    """
    config.expect({**COMMON, "num_channels": 3})
    activation = config.choice("hidden_act", ACTIVATIONS, None)
    return replace(
        defaults,
        layers=config.count("num_hidden_layers", defaults.layers),
        hidden=config.count("hidden_size", defaults.hidden),
        intermediate=config.count("intermediate_size", defaults.intermediate),
        heads=config.count("num_attention_heads", defaults.heads),
        image_size=config.count("image_size", defaults.image_size),
        patch_size=config.count("patch_size", defaults.patch_size),
        norm_eps=config.number("layer_norm_eps", defaults.norm_eps),
        activation=activation or defaults.activation,
    )


def hub_name(canonical: str) -> str:
    """Returns the name in SiglipVisionTransformer of the tensor `canonical` (GGUF's name)."""
    stem, _, kind = canonical.rpartition(".")
    if stem in TOP:
        return f"{TOP[stem]}.{kind}"
    index, _, part = stem.removeprefix("v.blk.").partition(".")
    return f"encoder.layers.{index}.{BLOCK[part]}.{kind}"
