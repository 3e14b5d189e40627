"""Describes the family InternVL3 (transformers: InternVLForConditionalGeneration).

It consists of InternViT, pixel shuffle and Qwen2.5's decoder (OpenGVLab 2025, "InternVL3").
Supported are the hub repositories whose names end with -hf, whose text model is Qwen2 and whose
vision encoder has layer norms (1B, 2B, 8B, 14B). Videos are not supported.
"""

from collections.abc import Mapping
from dataclasses import replace

from export.errors import UserError
from export.families import llama
from export.families.config import ACTIVATIONS, COMMON, expect_unquantized
from export.families.preprocessor import CLIP_MEAN, CLIP_STD, channels, expect_size, rescale, steps
from export.families.section import Json, Section
from export.families.spec import Family, Gguf, Source, Vocabulary
from export.images.aspect_tiles import AspectTiles
from export.modeling.shuffle_mlp import ShuffleMlp
from export.modeling.vision import TileVision
from export.modeling.vit import Vit
from export.modeling.vlm import Vlm, shapes
from export.prompts import Prompt

TEXT = llama.Defaults(context=32768, rope_theta=1e4, norm_eps=1e-6)
PROJECTOR_EPS = 1e-5  # torch's default, which InternVLMultiModalProjector leaves as it is
# 3 is PIL's number of BICUBIC.
STEPS: Json = steps(3, "GotOcr2ImageProcessor")
# Key of config.json, and of its parts -> the only value that is supported.
PLAIN: Json = {**COMMON, "vision_feature_layer": -1, "vision_feature_select_strategy": "default"}
PLAIN_TEXT: Json = {"model_type": "qwen2", "use_sliding_window": False}
PLAIN_VISION: Json = {
    **COMMON,
    "model_type": "internvl_vision",
    "norm_type": "layer_norm",
    "num_channels": 3,
    "use_absolute_position_embeddings": True,
    "use_mask_token": False,
    "use_mean_pooling": True,
    "use_qk_norm": False,
}


def read(config: Section) -> Vlm:
    """Reads a model's hyperparameters from config.json, with the defaults of InternVLConfig.

    Raises UserError for what is missing or not supported.
    """
    expect_unquantized(config)
    config.expect(PLAIN)
    text = config.section("text_config")
    text.expect(PLAIN_TEXT)
    ratio = config.number("downsample_ratio", 0.5, above=0)
    projector = ShuffleMlp(
        round(1 / ratio), PROJECTOR_EPS, config.choice("projector_hidden_act", ACTIVATIONS, "gelu")
    )
    tied = config.boolean("tie_word_embeddings", None)
    decoder = llama.decoder(text, tied is None or tied, TEXT)
    tower = _tower(config.section("vision_config", {}))
    return Vlm(
        family="internvl",
        vision=TileVision(tower, projector, config.integer("image_token_id", 151667)),
        text=replace(decoder, qkv_bias=True),
        bos_token_id=text.token_id("bos_token_id", 151643),
        stop_token_ids=text.token_ids("eos_token_id"),
    )


def _tower(vision: Section) -> Vit:
    vision.expect(PLAIN_VISION)
    if not vision.boolean("attention_bias", False):
        raise UserError(
            f"{vision.file}: vision_config.attention_bias is false, but InternVL3's towers have "
            f"biases; take config.json from the checkpoint"
        )
    return Vit(
        layers=vision.count("num_hidden_layers", 24),
        hidden=vision.count("hidden_size", 1024),
        intermediate=vision.count("intermediate_size", 4096),
        heads=vision.count("num_attention_heads", 16),
        image_size=vision.edge("image_size", 448),
        patch_size=vision.edge("patch_size", 14),
        norm_eps=vision.number("layer_norm_eps", 1e-6),
        activation=vision.choice("hidden_act", ACTIVATIONS, "gelu"),
        class_token=True,
        post_norm=False,
    )


def image(vlm: Vlm, preprocessor: Section) -> AspectTiles:
    """Makes the image recipe from preprocessor_config.json, as GotOcr2ImageProcessor does.

    Raises UserError for settings that the recipe cannot express.
    """
    preprocessor.expect(STEPS)
    edge = vlm.require_vision().tower.image_size
    expect_size(preprocessor, edge)
    return AspectTiles(
        tile=edge,
        min_crops=preprocessor.count("min_patches", 1),
        max_crops=preprocessor.count("max_patches", 12),
        mean=channels(preprocessor, "image_mean", CLIP_MEAN),
        std=channels(preprocessor, "image_std", CLIP_STD),
        rescale=rescale(preprocessor),
    )


def prompt(vlm: Vlm, config: Section) -> Prompt:
    """Makes the prompt template: one user turn of the chat template.

    Images are written as in transformers' processing_internvl.py.
    """
    before, after = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    return Prompt(
        with_images=before + "{images}{question}" + after,
        text_only=before + "{question}" + after,
        start="<img>",
        tile="{tokens}",
        overview="{tokens}</img>\n",
        single="<img>{tokens}</img>\n",
        image_token="<IMG_CONTEXT>",
        tokens_per_tile=vlm.require_vision().tokens_per_tile,
    )


TOP: Mapping[str, str] = {
    "v.patch_embd": "vision_tower.embeddings.patch_embeddings.projection",
    "mm.model.mlp.0": "multi_modal_projector.layer_norm",
    "mm.model.mlp.1": "multi_modal_projector.linear_1",
    "mm.model.mlp.3": "multi_modal_projector.linear_2",
}
VISION_BLOCK: Mapping[str, str] = {
    "ln1": "layernorm_before",
    "ln2": "layernorm_after",
    "attn_q": "attention.q_proj",
    "attn_k": "attention.k_proj",
    "attn_v": "attention.v_proj",
    "attn_out": "attention.projection_layer",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}
LAYER_SCALE: Mapping[str, str] = {"attn_out": "lambda_1", "ffn_down": "lambda_2"}


def sources(vlm: Vlm) -> dict[str, Source]:
    """Maps each tensor name of the model (GGUF's names) to its tensor in the checkpoint.

    LayerScale factors are multiplied into the linear map before them.
    """
    return {name: _source(name, vlm) for name in shapes(vlm)}


def _source(canonical: str, vlm: Vlm) -> Source:
    tower = vlm.require_vision().tower
    if canonical == "v.class_embd.weight":
        return Source("vision_tower.embeddings.cls_token", stored=(1, 1, tower.hidden))
    if canonical == "v.position_embd.weight":
        stored = (1, 1 + tower.patches, tower.hidden)
        return Source("vision_tower.embeddings.position_embeddings", stored=stored)
    stem, _, kind = canonical.rpartition(".")
    if stem in TOP:
        return Source(f"{TOP[stem]}.{kind}")
    if not stem.startswith("v."):
        return Source(llama.hub_name(canonical, "language_model.model", "language_model.lm_head"))
    index, _, part = stem.removeprefix("v.blk.").partition(".")
    block = f"vision_tower.encoder.layer.{index}"
    scale = f"{block}.{LAYER_SCALE[part]}" if part in LAYER_SCALE else None
    return Source(f"{block}.{VISION_BLOCK[part]}.{kind}", row_scale=scale)


INTERNVL = Family(
    name="internvl",
    model_types=("internvl",),
    read=read,
    sources=sources,
    image=image,
    prompt=prompt,
    image_in_template="<IMG_CONTEXT>\n",
    special_tokens=(
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<img>",
        "</img>",
        "<IMG_CONTEXT>",
    ),
    gguf=Gguf(
        arch="qwen2",
        # llama.cpp adds positions one patch late: findings/llama-cpp-internvl-positions.sh.
        projector_type=None,
        tokenizer="gpt2",
        tokenizer_pre="qwen2",
    ),
    layout="onnx-vision",
    stop_tokens=("<|im_end|>", "<|endoftext|>"),
    prefixes=(
        # transformers 5.
        ("model.language_model.", "language_model.model."),
        ("model.vision_tower.", "vision_tower."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
        ("lm_head.", "language_model.lm_head."),
        # Saved from InternVLModel, the class without a head.
        *((f"language_model.{part}.", f"language_model.model.{part}.") for part in llama.MODULES),
    ),
    vocabulary=Vocabulary(
        first=(),
        named={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        words=(" the", " image", " is", "user", "assistant"),
        text_vocab=151643,
    ),
)
