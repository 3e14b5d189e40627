"""Gemma 3 (transformers: Gemma3ForConditionalGeneration): SigLIP, average pool, Gemma.

Gemma Team 2025, "Gemma 3 Technical Report". The sizes for text alone (1B and 270M, transformers:
Gemma3ForCausalLM) are the same decoder without tower and projector.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import isqrt, sqrt
from typing import Any

from export.errors import UserError
from export.families import siglip
from export.families.config import activation, expect, expect_rope, token_ids
from export.families.geometry import Decoder, Local, Projector, Tower, Vlm
from export.families.inputs import Prompt, Stretch
from export.families.preprocessor import PREPROCESSOR, channels, rescale
from export.families.spec import Client, Family, Gguf, Json, Source, Transform, Vocabulary
from export.files import short
from export.shapes import shapes

TEXT_ONLY, IMAGE_TOKEN = "gemma3_text", "<image_soft_token>"
# Defaults of SiglipVisionConfig: hub configs leave keys out.
TOWER = Tower(12, 768, 3072, 12, 224, 16, 1e-6, "gelu_tanh")
# Steps that the recipe always takes (2 is PIL's number of BILINEAR).
STEPS: Json = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_pan_and_scan": False,
    "do_rescale": True,
    "do_resize": True,
    "resample": 2,
}
# What other checkpoints of these classes could ask for: key of text_config -> what is expected.
PLAIN: Json = {
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "use_bidirectional_attention": False,
}


def read(config: Json) -> Vlm:
    """Numbers of a config.json, hub style or as transformers 5 saves it (`rope_parameters`)."""
    # Defaults from here on are Gemma3Config's and Gemma3TextConfig's.
    sees = config.get("model_type") != TEXT_ONLY
    text = config["text_config"] if sees else config
    decoder = _decoder(text, bool(config.get("tie_word_embeddings", True)))
    vlm = Vlm(
        family="gemma3",
        vision=None,
        projector=None,
        text=decoder,
        image_token_id=None,
        bos_token_id=text.get("bos_token_id", 2),
        stop_token_ids=token_ids(config.get("eos_token_id", text.get("eos_token_id", 1))),
    )
    return _seeing(vlm, config) if sees else vlm


def _seeing(vlm: Vlm, config: Json) -> Vlm:
    """The same with the tower of `config`; in an image all positions see each other."""
    vision = siglip.tower(config.get("vision_config", {}), TOWER)
    tokens = config.get("mm_tokens_per_image", 256)
    side = isqrt(tokens)
    if side**2 != tokens or side == 0 or vision.side % side:
        raise UserError(
            f"config.json: mm_tokens_per_image {tokens} is not the square of a number that divides "
            f"the tower's {vision.side} patches a side; take config.json from the checkpoint"
        )
    return replace(
        vlm,
        vision=vision,
        projector=Projector("average_pool", vision.side // side, vision.norm_eps),
        text=replace(vlm.text, image_attention="bidirectional"),
        image_token_id=config.get("image_token_index", config.get("image_token_id", 262144)),
    )


def _decoder(text: Json, tied: bool) -> Decoder:
    expect(text, PLAIN)
    layers, hidden = text.get("num_hidden_layers", 26), text.get("hidden_size", 2304)
    everywhere, nearby = _ropes(text)
    window = text.get("sliding_window", 4096)
    return Decoder(
        layers=layers,
        hidden=hidden,
        intermediate=text.get("intermediate_size", 9216),
        heads=text.get("num_attention_heads", 8),
        kv_heads=text.get("num_key_value_heads", 4),
        head_dim=text.get("head_dim", 256),
        vocab=text.get("vocab_size", 262208),
        context=text.get("max_position_embeddings", 131072),
        rope_theta=float(everywhere.get("rope_theta", 1e6)),
        rope_factor=float(everywhere.get("factor", 1.0)),
        norm_eps=text.get("rms_norm_eps", 1e-6),
        activation=activation(text.get("hidden_activation", "gelu_pytorch_tanh")),
        tied=tied,
        local=Local(_local_layers(text, layers), window, float(nearby.get("rope_theta", 1e4))),
        head_norms=True,
        post_norms=True,
        attention_scale=1 / sqrt(text.get("query_pre_attn_scalar", 256)),
        embedding_scale=sqrt(hidden),
    )


def _ropes(text: Json) -> tuple[Json, Json]:
    """Rotations of the global and of the local layers, with `rope_theta` and `factor`."""
    saved = text.get("rope_parameters") or {}
    scaling = text.get("rope_scaling") or {}
    everywhere = _rope(saved.get("full_attention"), text.get("rope_theta"), scaling)
    nearby = _rope(saved.get("sliding_attention"), text.get("rope_local_base_freq"), {})
    expect_rope(everywhere, "default", "linear")
    expect_rope(nearby, "default")
    return everywhere, nearby


def _rope(saved: Json | None, theta: float | None, scaling: Json) -> Json:
    if saved is not None:
        return saved
    return dict(scaling) | ({} if theta is None else {"rope_theta": theta})


def _local_layers(text: Json, layers: int) -> tuple[int, ...]:
    """Five of six layers are local, unless the configuration names each layer's kind."""
    pattern = text.get("sliding_window_pattern", 6)
    kinds: Any = text.get("layer_types") or [
        "sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(layers)
    ]
    if len(kinds) != layers or set(kinds) - {"sliding_attention", "full_attention"}:
        raise UserError(
            f"config.json: layer_types has {len(kinds)} of {', '.join(sorted(set(kinds)))}, "
            f"expected {layers} of sliding_attention and full_attention"
        )
    return tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")


def sources(vlm: Vlm) -> dict[str, Source]:
    """Checkpoint names of the canonical tensors; Gemma's RMS norms multiply by 1 + weight."""
    decoder = "model" if vlm.vision is None else "language_model.model"
    return {name: _source(name, decoder) for name in shapes(vlm)}


def image(vlm: Vlm, preprocessor: Json) -> Stretch:
    """Image recipe of a preprocessor_config.json (Gemma3ImageProcessor without pan and scan).

    Raises UserError for settings that the recipe cannot express.
    """
    expect(preprocessor, STEPS, PREPROCESSOR)
    edge = vlm.sight.vision.image_size
    size = preprocessor.get("size", {"height": edge, "width": edge})
    if size != {"height": edge, "width": edge}:
        raise UserError(
            f"{PREPROCESSOR}: size is {short(str(size))}, expected height and width {edge}, the "
            f"vision tower's image_size of config.json; take both files from the same checkpoint"
        )
    return Stretch(
        size=edge,
        mean=channels(preprocessor, "image_mean"),
        std=channels(preprocessor, "image_std"),
        rescale=rescale(preprocessor),
    )


def prompt(vlm: Vlm, config: Json) -> Prompt:
    """One user turn of the chat template, images written out as processing_gemma3.py does."""
    before, after = "<bos><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"
    text = Prompt(text_only=before + "{question}" + after, strip=True)
    if vlm.vision is None:
        return text
    return replace(
        text,
        with_images=before + "{images}{question}" + after,
        single="\n\n<start_of_image>{tokens}<end_of_image>\n\n",
        image_token=IMAGE_TOKEN,
        tokens_per_tile=vlm.tokens_per_tile,
    )


PARTS: Mapping[str, str] = {
    "output.weight": "lm_head.weight",
    "mm.soft_emb_norm.weight": "multi_modal_projector.mm_soft_emb_norm.weight",
    "mm.input_projection.weight": "multi_modal_projector.mm_input_projection_weight",
}
TEXT: Mapping[str, str] = {"token_embd.weight": "embed_tokens", "output_norm.weight": "norm"}
BLOCK: Mapping[str, str] = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def _source(canonical: str, decoder: str) -> Source:
    """`decoder` is where the text model's tensors are."""
    if canonical.startswith("v."):
        return Source((f"vision_tower.vision_model.{siglip.hub_name(canonical)}",))
    if canonical == "mm.input_projection.weight":
        return Source((PARTS[canonical],), "transpose")
    transform: Transform = "add_one" if canonical.endswith("norm.weight") else ""
    if canonical in PARTS:
        return Source((PARTS[canonical],), transform)
    if canonical in TEXT:
        return Source((f"{decoder}.{TEXT[canonical]}.weight",), transform)
    index, _, part = canonical.removeprefix("blk.").removesuffix(".weight").partition(".")
    return Source((f"{decoder}.layers.{index}.{BLOCK[part]}.weight",), transform)


GEMMA3 = Family(
    name="gemma3",
    model_types=("gemma3", TEXT_ONLY),
    read=read,
    sources=sources,
    image=image,
    prompt=prompt,
    special_tokens=(
        "<start_of_turn>",
        "<end_of_turn>",
        "<start_of_image>",
        "<end_of_image>",
        IMAGE_TOKEN,
    ),
    image_tokens=(IMAGE_TOKEN,),
    gguf=Gguf(
        arch="gemma3",
        projector_type="gemma3",
        tokenizer="llama",
        tokenizer_pre="default",
        stated=("attention.key_length", "attention.value_length"),
        space_prefix=True,
        arranged={"mm.input_projection.weight": "transposed"},
        floats={
            "v.patch_embd.*": 32,
            "v.position_embd.*": 32,
            "mm.input_projection.weight": 16,
        },
    ),
    layout="onnx-vision",  # faster than mmproj: docs/notes/2026-11-gguf-image-encoders.md
    stop_tokens=("<end_of_turn>",),
    spellings=(
        # transformers 5 in memory, and what it saves of a model that was not loaded from the hub.
        ("model.language_model.", "language_model.model."),
        ("model.vision_tower.", "vision_tower."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
        ("language_model.lm_head.", "lm_head."),
        *(
            (f"vision_tower.{part}.", f"vision_tower.vision_model.{part}.")
            for part in ("embeddings", "encoder", "post_layernorm")
        ),
    ),
    vocabulary=Vocabulary(
        first=("<pad>", "<eos>", "<bos>", "<unk>"),
        named={
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
        },
        words=(" the", " image", " is", "\n\n", "\n\n\n", "user", "model"),
        own=0,  # its image token belongs to the text model's vocabulary
        byte_fallback=True,
    ),
    clients={
        "transformers.js": Client(
            text_model_type="gemma3_text",
            processor="Gemma3Processor",
            image_processor="Gemma3ImageProcessor",
            tokens_key="image_seq_length",
            limits=(
                "transformers.js shrinks images without smoothing, so of an image of another size "
                "than the tower's it sees different pixels",
            ),
        ),
        "genai": Client("gemma3", image_tokens=256),
    },
)
