"""Describes the family Gemma 3 (transformers: Gemma3ForConditionalGeneration).

It consists of SigLIP, average pooling and Gemma's decoder (Gemma Team 2025, "Gemma 3 Technical
Report"). The text-only sizes (1B and 270M, transformers: Gemma3ForCausalLM) are the decoder alone.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import isqrt, sqrt

from export.errors import UserError
from export.families import llama, siglip
from export.families.config import ACTIVATIONS, COMMON, DECODER, expect_unquantized, or_empty, rope
from export.families.preprocessor import channels, expect_size, rescale, steps
from export.families.section import Json, Section
from export.families.spec import Client, Family, Gguf, Source, Transform, Vocabulary
from export.images import ImageRecipe, Stretch
from export.modeling.average_pool import AveragePool
from export.modeling.decoder import Decoder, SlidingWindow
from export.modeling.vision import TileVision, Vision
from export.modeling.vit import Vit
from export.modeling.vlm import Vlm, shapes
from export.prompts import Prompt

TEXT_ONLY, IMAGE_TOKEN = "gemma3_text", "<image_soft_token>"
# Defaults of SiglipVisionConfig: hub configs leave keys out.
TOWER = Vit(12, 768, 3072, 12, 224, 16, 1e-6, "gelu_tanh")
# 2 is PIL's number of BILINEAR.
STEPS: Json = {**steps(2, "Gemma3ImageProcessor"), "do_pan_and_scan": False}
# Key of text_config -> the only value that is supported.
PLAIN: Json = {
    **DECODER,
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "model_type": TEXT_ONLY,
    "partial_rotary_factor": 1,
    "use_bidirectional_attention": False,
}
LAYER_KINDS = ("full_attention", "sliding_attention")
POOLED = 4
"""Edge, in patches, of the squares that llama.cpp averages if a GGUF file has no scale_factor."""


def read(config: Section) -> Vlm:
    """Reads a model's hyperparameters from config.json, as on the hub or from transformers 5.

    Raises UserError for what is missing or not supported.
    """
    # Defaults from here on are Gemma3Config's and Gemma3TextConfig's.
    expect_unquantized(config)
    has_vision = config.string("model_type") != TEXT_ONLY
    text = config.section("text_config") if has_vision else config
    tied = config.boolean("tie_word_embeddings", None)
    vlm = Vlm(
        family="gemma3",
        vision=None,
        text=_decoder(text, tied is None or tied),
        bos_token_id=text.token_id("bos_token_id", 2),
        stop_token_ids=config.token_ids("eos_token_id", text.token_ids("eos_token_id", (1,))),
    )
    return _with_vision(vlm, config) if has_vision else vlm


def _with_vision(vlm: Vlm, config: Section) -> Vlm:
    """Adds the vision part that `config` describes to a text model.

    The positions of one image then attend to each other.
    """
    config.expect(COMMON)
    vision = config.section("vision_config", {})
    vision.expect({"model_type": "siglip_vision_model"})
    tower = siglip.tower(vision, TOWER)
    tokens = config.integer("mm_tokens_per_image", 256)
    side = isqrt(max(tokens, 0))
    if side**2 != tokens or side == 0 or tower.side % side:
        raise UserError(
            f"{config.file}: mm_tokens_per_image {tokens} is not the square of a number that "
            f"divides the tower's {tower.side} patches a side; take config.json from the checkpoint"
        )
    # transformers takes the second name before the first one.
    token_id = config.integer("image_token_id", config.integer("image_token_index", 262144))
    return replace(
        vlm,
        vision=TileVision(tower, AveragePool(tower.side // side, tower.norm_eps), token_id),
        text=replace(vlm.text, bidirectional_images=True),
    )


def _decoder(text: Section, tied: bool) -> Decoder:
    text.expect(PLAIN)
    layers, hidden = text.count("num_hidden_layers", 26), text.count("hidden_size", 2304)
    theta, factor, local_theta = _ropes(text)
    return Decoder(
        layers=layers,
        hidden=hidden,
        intermediate=text.count("intermediate_size", 9216),
        heads=text.count("num_attention_heads", 8),
        kv_heads=text.count("num_key_value_heads", 4),
        head_dim=text.count("head_dim", 256),
        vocab=text.count("vocab_size", 262208),
        context=text.count("max_position_embeddings", 131072),
        rope_theta=theta,
        rope_factor=factor,
        norm_eps=text.number("rms_norm_eps", 1e-6),
        activation=text.choice("hidden_activation", ACTIVATIONS, "gelu_tanh"),
        tied=tied,
        sliding=SlidingWindow(
            _local_layers(text, layers), text.integer("sliding_window", 4096), local_theta
        ),
        head_norms=True,
        post_norms=True,
        attention_scale=1 / sqrt(text.number("query_pre_attn_scalar", 256.0, above=0)),
        embedding_scale=sqrt(hidden),
    )


def _ropes(text: Section) -> tuple[float, float, float]:
    """Returns rope_theta and factor of the global layers, then rope_theta of the local ones.

    They are in rope_parameters by kind of layer (transformers 5), or in keys of their own.
    """
    saved = or_empty(text, "rope_parameters")
    saved.expect_keys(LAYER_KINDS)
    full, local = (saved.section(kind, None) for kind in LAYER_KINDS)
    scaling = or_empty(text, "rope_scaling")
    if full is not None:
        text.expect({"rope_scaling": None})
    if "rope_type" not in scaling and scaling.string("type", "default") != "default":
        raise UserError(
            f"{text.file}: {scaling.path} says its kind under type, which transformers 5 does not "
            f"read for Gemma 3; rename type to rope_type"
        )
    theta, factor = rope(full or scaling, text.number("rope_theta", 1e6), ("default", "linear"))
    base = text.number("rope_local_base_freq", 1e4)
    return theta, factor, base if local is None else rope(local, base, ("default",))[0]


def _local_layers(text: Section, layers: int) -> tuple[int, ...]:
    """Returns the indices of the layers with a sliding window.

    They are five of six (or as the pattern says), unless config.json lists each layer's kind.
    """
    pattern = text.count("sliding_window_pattern", None) or 6
    kinds = text.strings("layer_types", None) or tuple(
        LAYER_KINDS[bool((i + 1) % pattern)] for i in range(min(layers, 1 << 10))
    )
    if len(kinds) != min(layers, 1 << 10) or set(kinds) - set(LAYER_KINDS):
        raise UserError(
            f"{text.file}: layer_types has {len(kinds)} of {', '.join(sorted(set(kinds)))}, "
            f"expected {layers} of sliding_attention and full_attention"
        )
    return tuple(i for i, kind in enumerate(kinds) if kind == "sliding_attention")


def image(vlm: Vlm, preprocessor: Section) -> Stretch:
    """Makes the image recipe from preprocessor_config.json (without pan and scan).

    Raises UserError for settings that the recipe cannot express.
    """
    preprocessor.expect(STEPS)
    edge = vlm.require_vision().tower.image_size
    expect_size(preprocessor, edge)
    return Stretch(
        size=edge,
        mean=channels(preprocessor, "image_mean"),
        std=channels(preprocessor, "image_std"),
        rescale=rescale(preprocessor),
    )


def prompt(vlm: Vlm, config: Section) -> Prompt:
    """Makes the prompt template: one user turn of the chat template.

    Images are written as in transformers' processing_gemma3.py.
    """
    before, after = "<bos><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"
    text = Prompt(text_only=before + "{question}" + after, strip=True)
    if vlm.vision is None:
        return text
    return replace(
        text,
        with_images=before + "{images}{question}" + after,
        single="\n\n<start_of_image>{tokens}<end_of_image>\n\n",
        image_token=IMAGE_TOKEN,
        tokens_per_tile=vlm.vision.tokens_per_tile,
    )


TOP: Mapping[str, str] = {
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


def sources(vlm: Vlm) -> dict[str, Source]:
    """Maps each tensor name of the model (GGUF's names) to its tensor in the checkpoint.

    Norm weights get 1 added, because Gemma's RMS norms multiply by 1 + weight.
    """
    decoder = "model" if vlm.vision is None else "language_model.model"
    return {name: _source(name, decoder) for name in shapes(vlm)}


def _source(canonical: str, decoder: str) -> Source:
    """Returns the checkpoint tensor for one of the model; `decoder` is the text model's prefix."""
    if canonical.startswith("v."):
        return Source(f"vision_tower.vision_model.{siglip.hub_name(canonical)}")
    if canonical == "mm.input_projection.weight":
        return Source(TOP[canonical], "transpose")
    transform: Transform | None = "add_one" if canonical.endswith("norm.weight") else None
    if canonical in TOP:
        return Source(TOP[canonical], transform)
    if canonical in TEXT:
        return Source(f"{decoder}.{TEXT[canonical]}.weight", transform)
    index, _, part = canonical.removeprefix("blk.").removesuffix(".weight").partition(".")
    return Source(f"{decoder}.layers.{index}.{BLOCK[part]}.weight", transform)


def _vision_keys(vision: Vision, image: ImageRecipe) -> dict[str, int]:
    assert isinstance(vision, TileVision)
    assert isinstance(vision.projector, AveragePool)
    scale = vision.projector.scale
    return {} if scale == POOLED else {"clip.vision.projector.scale_factor": scale}


GEMMA3 = Family(
    name="gemma3",
    model_types=("gemma3", TEXT_ONLY),
    read=read,
    sources=sources,
    image=image,
    prompt=prompt,
    image_in_template="<start_of_image>",
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
        vision_keys=_vision_keys,
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
    prefixes=(
        # transformers 5 in memory, and what it saves of a model that was not loaded from the hub.
        ("model.language_model.", "language_model.model."),
        ("model.vision_tower.", "vision_tower."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
        ("language_model.lm_head.", "lm_head."),
        *(
            (f"vision_tower.{part}.", f"vision_tower.vision_model.{part}.")
            for part in ("embeddings", "encoder", "post_layernorm")
        ),
        # Saved from Gemma3Model or Gemma3TextModel, the classes without a head.
        *((f"language_model.{part}.", f"language_model.model.{part}.") for part in llama.MODULES),
        *((f"{part}.", f"model.{part}.") for part in llama.MODULES),
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
        text_vocab=0,  # its image token belongs to the text model's vocabulary
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
