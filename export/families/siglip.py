"""SigLIP's tower as families have it: its keys in config.json and its tensors' names.

NOT aware of the families that use it; each brings its own class's defaults.
"""

from collections.abc import Mapping
from dataclasses import replace

from export.families.config import activation
from export.families.geometry import Tower
from export.families.spec import Json

# Tower's field -> SigLIP's key.
SIZES: Mapping[str, str] = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "heads": "num_attention_heads",
    "image_size": "image_size",
    "patch_size": "patch_size",
    "norm_eps": "layer_norm_eps",
    "channels": "num_channels",
}
PARTS: Mapping[str, str] = {
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


def tower(config: Json, defaults: Tower) -> Tower:
    """The numbers of a vision_config; hub configs leave out what is their class's default."""
    found = {field: config[key] for field, key in SIZES.items() if key in config}
    kind = config.get("hidden_act")
    return replace(
        defaults, **found, activation=activation(kind) if kind is not None else defaults.activation
    )


def hub_name(canonical: str) -> str:
    """A tower's tensor (`v.…`) inside SiglipVisionTransformer."""
    stem, _, kind = canonical.rpartition(".")
    if stem in PARTS:
        return f"{PARTS[stem]}.{kind}"
    index, _, part = stem.removeprefix("v.blk.").partition(".")
    return f"encoder.layers.{index}.{BLOCK[part]}.{kind}"
