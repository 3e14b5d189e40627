"""Reads Llama's and Qwen2's decoders for several families: hyperparameters and tensor names."""

from collections.abc import Mapping
from dataclasses import dataclass

from export.families.config import (
    ACTIVATIONS,
    DECODER,
    expect_full_attention,
    rope,
    rope_section,
)
from export.families.section import Section
from export.modeling.decoder import Decoder

ROPES = ("default", "linear")
TOP: Mapping[str, str] = {"token_embd": "embed_tokens", "output_norm": "norm"}
BLOCK: Mapping[str, str] = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

MODULES = ("embed_tokens", "layers", "norm")
"""The modules of a decoder, whose tensors a class without a head may save without a prefix."""


@dataclass(frozen=True)
class Defaults:
    """Values for a decoder's keys that config.json leaves out; they differ by family."""

    context: int
    rope_theta: float
    norm_eps: float


def decoder(
    text: Section, tied: bool, defaults: Defaults, ropes: tuple[str, ...] = ROPES
) -> Decoder:
    """Reads a decoder's hyperparameters from text_config.

    tied: whether the output head is the token embedding. ropes: kinds of rotary positions that are
    supported. Raises UserError.
    """
    text.expect({**DECODER, "partial_rotary_factor": 1})
    expect_full_attention(text)
    hidden, heads = text.count("hidden_size"), text.count("num_attention_heads")
    kv_heads, head_dim = text.count("num_key_value_heads", None), text.count("head_dim", None)
    base = text.number("rope_theta", defaults.rope_theta)
    theta, factor = rope(rope_section(text), base, ropes)
    return Decoder(
        layers=text.count("num_hidden_layers"),
        hidden=hidden,
        intermediate=text.count("intermediate_size"),
        heads=heads,
        kv_heads=kv_heads or heads,
        head_dim=head_dim or hidden // heads,
        vocab=text.count("vocab_size"),
        context=text.count("max_position_embeddings", defaults.context),
        rope_theta=theta,
        rope_factor=factor,
        norm_eps=text.number("rms_norm_eps", defaults.norm_eps),
        activation=text.choice("hidden_act", ACTIVATIONS, "silu"),
        tied=tied,
    )


def hub_name(canonical: str, model: str, head: str = "lm_head") -> str:
    """Returns the checkpoint's name of a decoder tensor, from its name in GGUF (`canonical`).

    `model` is the checkpoint's prefix of the text model, `head` the name of its output head.
    """
    stem, _, kind = canonical.rpartition(".")
    if stem == "output":
        return f"{head}.{kind}"
    if stem in TOP:
        return f"{model}.{TOP[stem]}.{kind}"
    index, _, part = stem.removeprefix("blk.").partition(".")
    return f"{model}.layers.{index}.{BLOCK[part]}.{kind}"
