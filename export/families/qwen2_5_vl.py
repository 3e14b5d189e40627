"""Qwen2.5-VL (transformers: Qwen2_5_VLForConditionalGeneration): a tower for any size, Qwen2.5.

Qwen Team 2025, "Qwen2.5-VL Technical Report". Videos are not read.
"""

from collections.abc import Mapping
from typing import Any

from export.errors import UserError
from export.families.config import activation, expect, token_ids
from export.families.geometry import Decoder, Projector, Tower, Vlm
from export.families.inputs import Patches, Prompt
from export.families.preprocessor import PREPROCESSOR, channels, rescale
from export.families.spec import Client, Family, Gguf, Json, Source, Vocabulary
from export.files import short
from export.shapes import shapes

EXAMPLE_EDGE = 560
"""Pixels of the example image: what llama.cpp's converter writes as this tower's image size."""
# Steps that the recipe always takes (3 is PIL's number of BICUBIC).
STEPS: Json = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "resample": 3,
}
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
# What other checkpoints of these classes could ask for: key -> what is expected.
PLAIN: Json = {"use_sliding_window": False}


def read(config: Json) -> Vlm:
    """Numbers of a config.json, flat as on the hub or nested as transformers 5 saves it."""
    text = config.get("text_config", config)
    expect(text, PLAIN)
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    return Vlm(
        family="qwen2_5_vl",
        vision=_tower(config["vision_config"]),
        projector=Projector("merge_mlp", config["vision_config"].get("spatial_merge_size", 2)),
        text=Decoder(
            layers=text["num_hidden_layers"],
            hidden=hidden,
            intermediate=text["intermediate_size"],
            heads=heads,
            kv_heads=text.get("num_key_value_heads") or heads,
            head_dim=hidden // heads,
            vocab=text["vocab_size"],
            context=text.get("max_position_embeddings", 32768),
            rope_theta=float(rope.get("rope_theta", text.get("rope_theta", 1e6))),
            norm_eps=text.get("rms_norm_eps", 1e-5),
            activation=activation(text.get("hidden_act", "silu")),
            tied=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=True,
            rope_sections=_sections(rope),
        ),
        image_token_id=config.get("image_token_id", 151655),
        bos_token_id=text.get("bos_token_id", config.get("bos_token_id", 151643)),
        stop_token_ids=token_ids(text.get("eos_token_id", config.get("eos_token_id", 151645))),
    )


def _tower(vision: Json) -> Tower:
    """Defaults are Qwen2_5_VLVisionConfig's."""
    patch, square = vision.get("patch_size", 14), vision.get("spatial_merge_size", 2)
    window: int = vision.get("window_size", 112)
    if window % (patch * square):
        raise UserError(
            f"config.json: window_size {window} is not a multiple of patch_size {patch} times "
            f"spatial_merge_size {square}; take config.json from the checkpoint"
        )
    return Tower(
        layers=vision.get("depth", 32),
        hidden=vision.get("hidden_size", 3584),
        intermediate=vision.get("intermediate_size", 3420),
        heads=vision.get("num_heads", 16),
        image_size=EXAMPLE_EDGE // (patch * square) * patch * square,
        patch_size=patch,
        norm_eps=1e-6,  # Qwen2_5_VLVisionBlock and Qwen2_5_VLPatchMerger have it as a constant
        activation=activation(vision.get("hidden_act", "silu")),
        channels=vision.get("in_channels", vision.get("in_chans", 3)),
        norm="rms",
        gated=True,
        positions="rotary",
        square=square,
        window=window // patch,
        full_layers=tuple(vision.get("fullatt_block_indexes", [7, 15, 23, 31])),
        frames=vision.get("temporal_patch_size", 2),
    )


def _sections(rope: Json) -> tuple[int, int, int]:
    match rope.get("mrope_section"):
        case [int() as time, int() as row, int() as column]:
            return time, row, column
        case found:
            raise UserError(
                f"config.json: mrope_section is {short(str(found))}, expected three numbers"
            )


def image(vlm: Vlm, preprocessor: Json) -> Patches:
    """Image recipe of a preprocessor_config.json (Qwen2VLImageProcessor).

    Raises UserError for settings that the recipe cannot express.
    """
    expect(preprocessor, STEPS, PREPROCESSOR)
    size: Any = preprocessor.get("size") or {}
    least = preprocessor.get("min_pixels") or size.get("shortest_edge") or 56 * 56
    most = preprocessor.get("max_pixels") or size.get("longest_edge") or 28 * 28 * 1280
    if type(least) is not int or type(most) is not int:
        raise UserError(
            f"{PREPROCESSOR}: min_pixels {short(str(least))} and max_pixels {short(str(most))} are "
            f"no numbers of pixels"
        )
    return Patches(
        patch=preprocessor.get("patch_size", 14),
        square=preprocessor.get("merge_size", 2),
        frames=preprocessor.get("temporal_patch_size", 2),
        min_pixels=least,
        max_pixels=most,
        tile=vlm.sight.vision.image_size,
        mean=channels({"image_mean": CLIP_MEAN} | dict(preprocessor), "image_mean"),
        std=channels({"image_std": CLIP_STD} | dict(preprocessor), "image_std"),
        rescale=rescale(preprocessor),
    )


def prompt(vlm: Vlm, config: Json) -> Prompt:
    """One user turn of the chat template, with the system turn that it adds."""
    before = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    after = "<|im_end|>\n<|im_start|>assistant\n"
    return Prompt(
        with_images=before + "{images}{question}" + after,
        text_only=before + "{question}" + after,
        tile="",
        row_end="",
        overview="",
        single="<|vision_start|>{tokens}<|vision_end|>",
        image_token="<|image_pad|>",
        tokens_per_tile=None,
    )


PARTS: Mapping[str, str] = {
    "v.patch_embd": "visual.patch_embed.proj",
    "v.post_ln": "visual.merger.ln_q",
    "mm.0": "visual.merger.mlp.0",
    "mm.2": "visual.merger.mlp.2",
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
VISION_BLOCK: Mapping[str, str] = {
    "ln1": "norm1",
    "ln2": "norm2",
    "attn_out": "attn.proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TEXT_BLOCK: Mapping[str, str] = {
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


def sources(vlm: Vlm) -> dict[str, Source]:
    """Checkpoint names of the canonical tensors; a tower's query, key and value are one there."""
    return {name: _source(name) for name in shapes(vlm)}


def _source(canonical: str) -> Source:
    stem, _, kind = canonical.rpartition(".")
    if stem in PARTS:
        return Source((f"{PARTS[stem]}.{kind}",))
    place, _, part = stem.partition("blk.")[2].partition(".")
    if not stem.startswith("v."):
        return Source((f"model.layers.{place}.{TEXT_BLOCK[part]}.{kind}",))
    if part in VISION_BLOCK:
        return Source((f"visual.blocks.{place}.{VISION_BLOCK[part]}.{kind}",))
    third = ("attn_q", "attn_k", "attn_v").index(part)
    return Source((f"visual.blocks.{place}.attn.qkv.{kind}",), part=(third, 3))


QWEN2_5_VL = Family(
    name="qwen2_5_vl",
    model_types=("qwen2_5_vl",),
    read=read,
    sources=sources,
    image=image,
    prompt=prompt,
    special_tokens=(
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|object_ref_start|>",
        "<|object_ref_end|>",
        "<|box_start|>",
        "<|box_end|>",
        "<|quad_start|>",
        "<|quad_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ),
    gguf=Gguf(
        arch="qwen2vl",
        projector_type="qwen2.5vl_merger",
        tokenizer="gpt2",
        tokenizer_pre="qwen2",
        arranged={"v.patch_embd.weight": "by_frame"},
    ),
    layout="onnx-vision",  # faster than mmproj: docs/notes/2026-11-gguf-image-encoders.md
    stop_tokens=("<|im_end|>", "<|endoftext|>"),
    spellings=(
        # transformers 5 in memory.
        ("model.language_model.", "model."),
        ("model.visual.", "visual."),
    ),
    vocabulary=Vocabulary(
        first=(),
        named={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        words=(
            *(" the", " image", " is", "system", "You", " are", " a", " helpful", " assistant"),
            *("user", "assistant"),
        ),
        own=151643,
    ),
    clients={
        "transformers.js": Client(
            text_model_type="qwen2_5_vl_text",
            processor="Qwen2_5_VLProcessor",
            image_processor="Qwen2VLImageProcessor",
            limits=(
                "transformers.js takes one image a prompt: its processor makes frames of one video "
                "of several",
                "transformers.js shrinks images without smoothing, so of an image whose edges are "
                "no multiples of a square of patches it sees different pixels",
            ),
        ),
        "genai": Client("qwen2_5_vl"),
    },
)
