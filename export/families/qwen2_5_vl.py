"""Describes the family Qwen2.5-VL (transformers: Qwen2_5_VLForConditionalGeneration).

It consists of a vision encoder for images of any size and Qwen2.5's decoder (Qwen Team 2025,
"Qwen2.5-VL Technical Report"). Videos are not supported.
"""

from collections.abc import Mapping
from dataclasses import replace

from export.errors import UserError
from export.families import llama
from export.families.config import ACTIVATIONS, COMMON, expect_unquantized, rope_section
from export.families.preprocessor import CLIP_MEAN, CLIP_STD, channels, rescale, steps
from export.families.section import Json, Section
from export.families.spec import Client, Family, Gguf, Source, Vocabulary
from export.images import ImageRecipe, Patches
from export.modeling.patch_merger import PatchMerger
from export.modeling.qwen_vit import QwenVit
from export.modeling.vision import ImageVision, Vision
from export.modeling.vlm import Vlm, shapes
from export.prompts import Prompt

EXAMPLE_EDGE = 560
"""Edge in pixels of the example image; llama.cpp's converter writes it as the image size."""
TEXT = llama.Defaults(context=32768, rope_theta=1e6, norm_eps=1e-5)
ROPES = ("default", "mrope", "linear")
# Key of text_config (or config.json, if flat), and of vision_config -> the only values that are
# supported.
PLAIN_TEXT: Json = {
    "model_type": ("qwen2_5_vl", "qwen2_5_vl_text"),
    "use_sliding_window": False,
}
PLAIN_VISION: Json = {
    **COMMON,
    "in_channels": 3,
    "in_chans": 3,
    "model_type": ("qwen2_5_vl", "qwen2_5_vl_vision"),
    "rope_theta": 1e4,
}
VISION_ROPE: Json = {
    "partial_rotary_factor": 1,
    "rope_theta": 1e4,
    "rope_type": ("axial", "default"),
    "type": ("axial", "default"),
}
# 3 is PIL's number of BICUBIC.
STEPS: Json = steps(3, "Qwen2VLImageProcessor", "Qwen2_5_VLImageProcessor")


def read(config: Section) -> Vlm:
    """Reads a model's hyperparameters from config.json: flat as on the hub, or nested.

    Transformers 5 saves the nested one. Raises UserError for what is missing or not supported.
    """
    expect_unquantized(config)
    config.expect(COMMON)
    text = config.section("text_config", None) or config
    text.expect(PLAIN_TEXT)
    # As Qwen2_5_VLConfig reads it: transformers 4 saved it in text_config.
    tied = any(part.boolean("tie_word_embeddings", None) for part in (config, text))
    decoder = llama.decoder(text, tied, TEXT, ROPES)
    text.expect({"head_dim": decoder.hidden // decoder.heads})
    decoder = replace(decoder, qkv_bias=True, rope_sections=_sections(rope_section(text)))
    return Vlm(
        family="qwen2_5_vl",
        vision=ImageVision(
            _tower(config.section("vision_config"), decoder.hidden),
            PatchMerger(),
            config.integer("image_token_id", 151655),
        ),
        text=decoder,
        bos_token_id=text.token_id("bos_token_id", config.token_id("bos_token_id", 151643)),
        stop_token_ids=text.token_ids("eos_token_id", config.token_ids("eos_token_id", (151645,))),
    )


def _tower(vision: Section, text_hidden: int) -> QwenVit:
    """Reads the vision encoder's hyperparameters, with the defaults of Qwen2_5_VLVisionConfig."""
    hidden = vision.count("hidden_size", 3584)
    # transformers takes the second name of these two before the first one.
    layers = vision.count("num_hidden_layers", vision.count("depth", 32))
    heads = vision.count("num_attention_heads", vision.count("num_heads", 16))
    vision.expect({**PLAIN_VISION, "head_dim": hidden // heads, "out_hidden_size": text_hidden})
    rope_section(vision).expect(VISION_ROPE)
    patch, merge = vision.count("patch_size", 14), vision.count("spatial_merge_size", 2)
    window = vision.count("window_size", 112)
    if window % (patch * merge):
        raise UserError(
            f"{vision.file}: window_size {window} is not a multiple of patch_size {patch} times "
            f"spatial_merge_size {merge}; take config.json from the checkpoint"
        )
    return QwenVit(
        layers=layers,
        hidden=hidden,
        intermediate=vision.count("intermediate_size", 3420),
        heads=heads,
        image_size=EXAMPLE_EDGE // (patch * merge) * patch * merge,
        patch_size=patch,
        norm_eps=1e-6,  # a constant of Qwen2_5_VLVisionBlock and Qwen2_5_VLPatchMerger
        activation=vision.choice("hidden_act", ACTIVATIONS, "silu"),
        spatial_merge_size=merge,
        temporal_patch_size=vision.count("temporal_patch_size", 2),
        window=window // patch,
        full_attention_layers=vision.integers("fullatt_block_indexes", (7, 15, 23, 31)),
    )


def _sections(rope: Section) -> tuple[int, int, int]:
    time, row, column = rope.integers("mrope_section", length=3)
    return time, row, column


def image(vlm: Vlm, preprocessor: Section) -> Patches:
    """Makes the image recipe from preprocessor_config.json, as Qwen2VLImageProcessor does.

    Raises UserError for settings that the recipe cannot express.
    """
    preprocessor.expect(STEPS)
    return Patches(
        patch_size=preprocessor.count("patch_size", 14),
        merge_size=preprocessor.count("merge_size", 2),
        temporal_patch_size=preprocessor.count("temporal_patch_size", 2),
        min_pixels=_pixels(preprocessor, "min_pixels", "shortest_edge", 56 * 56),
        max_pixels=_pixels(preprocessor, "max_pixels", "longest_edge", 28 * 28 * 1280),
        tile=vlm.require_vision().tower.image_size,
        mean=channels(preprocessor, "image_mean", CLIP_MEAN),
        std=channels(preprocessor, "image_std", CLIP_STD),
        rescale=rescale(preprocessor),
    )


def _pixels(preprocessor: Section, key: str, edge: str, default: int) -> int:
    """Reads a limit on an image's pixels: `key`, or in other versions `edge` of `size`."""
    if (limit := preprocessor.count(key, None)) is not None:
        return limit
    size = preprocessor.section("size", None)
    return default if size is None else size.count(edge)


def prompt(vlm: Vlm, config: Section) -> Prompt:
    """Makes the prompt template: the system turn and one user turn of the chat template."""
    before = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    after = "<|im_end|>\n<|im_start|>assistant\n"
    return Prompt(
        with_images=before + "{images}{question}" + after,
        text_only=before + "{question}" + after,
        single="<|vision_start|>{tokens}<|vision_end|>",
        image_token="<|image_pad|>",
    )


TOP: Mapping[str, str] = {
    "v.patch_embd": "visual.patch_embed.proj",
    "v.post_ln": "visual.merger.ln_q",
    "mm.0": "visual.merger.mlp.0",
    "mm.2": "visual.merger.mlp.2",
}
VISION_BLOCK: Mapping[str, str] = {
    "ln1": "norm1",
    "ln2": "norm2",
    "attn_out": "attn.proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def sources(vlm: Vlm) -> dict[str, Source]:
    """Maps each tensor name of the model (GGUF's names) to its tensor in the checkpoint.

    The vision encoder's query, key and value are parts of one tensor there.
    """
    return {name: _source(name) for name in shapes(vlm)}


def _source(canonical: str) -> Source:
    stem, _, kind = canonical.rpartition(".")
    if stem in TOP:
        return Source(f"{TOP[stem]}.{kind}")
    if not stem.startswith("v."):
        return Source(llama.hub_name(canonical, "model"))
    index, _, part = stem.removeprefix("v.blk.").partition(".")
    if part in VISION_BLOCK:
        return Source(f"visual.blocks.{index}.{VISION_BLOCK[part]}.{kind}")
    third = ("attn_q", "attn_k", "attn_v").index(part)
    return Source(f"visual.blocks.{index}.attn.qkv.{kind}", part=(third, 3))


def _vision_keys(vision: Vision, image: ImageRecipe) -> dict[str, int]:
    """Returns the GGUF key that says at which interval layers attend to the whole image."""
    assert isinstance(vision, ImageVision)
    tower = vision.tower
    return {"clip.vision.n_wa_pattern": (*tower.full_attention_layers, tower.layers)[0] + 1}


QWEN2_5_VL = Family(
    name="qwen2_5_vl",
    model_types=("qwen2_5_vl",),
    read=read,
    sources=sources,
    image=image,
    prompt=prompt,
    image_in_template="<|vision_start|><|image_pad|><|vision_end|>",
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
        vision_keys=_vision_keys,
        arranged={"v.patch_embd.weight": "by_frame"},
    ),
    layout="onnx-vision",  # faster than mmproj: docs/notes/2026-11-gguf-image-encoders.md
    stop_tokens=("<|im_end|>", "<|endoftext|>"),
    prefixes=(
        # transformers 5 in memory.
        ("model.language_model.", "model."),
        ("model.visual.", "visual."),
        # Saved from Qwen2_5_VLModel, the class without a head.
        ("language_model.", "model."),
    ),
    vocabulary=Vocabulary(
        first=(),
        named={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        words=(
            *(" the", " image", " is", "system", "You", " are", " a", " helpful", " assistant"),
            *("user", "assistant"),
        ),
        text_vocab=151643,
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
                "not multiples of a square of patches it sees different pixels",
            ),
        ),
        "genai": Client("qwen2_5_vl"),
    },
)
