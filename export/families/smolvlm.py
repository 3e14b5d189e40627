"""Describes the family SmolVLM and SmolVLM2 (transformers: Idefics3 and SmolVLM).

It consists of SigLIP, pixel shuffle and Llama's decoder.
"""

from export.errors import UserError
from export.families import llama, siglip
from export.families.config import COMMON, expect_unquantized
from export.families.preprocessor import channels, rescale, steps
from export.families.section import Json, Section
from export.families.spec import Client, Family, Gguf, Source
from export.images import ImageRecipe, Tiles
from export.modeling.pixel_shuffle import PixelShuffle
from export.modeling.vision import TileVision, Vision
from export.modeling.vit import Vit
from export.modeling.vlm import Vlm, shapes
from export.prompts import Prompt

# Defaults of Idefics3VisionConfig and LlamaConfig: hub configs leave keys out.
TOWER = Vit(12, 1152, 3072, 16, 224, 32, 1e-6, "gelu_tanh")
TEXT = llama.Defaults(context=2048, rope_theta=1e4, norm_eps=1e-6)
# Key of text_config, and of vision_config -> the only values that are supported.
PLAIN_TEXT: Json = {
    "attention_bias": False,
    "mlp_bias": False,
    "model_type": "llama",
    "sliding_window": None,
}
PLAIN_VISION: Json = {
    "model_type": ("idefics3_vision", "smolvlm_vision", "idefics3", "smolvlm"),
}
# 1 is PIL's number of LANCZOS.
STEPS: Json = steps(1, "Idefics3ImageProcessor", "SmolVLMImageProcessor")


def read(config: Section) -> Vlm:
    """Reads a model's hyperparameters from config.json, as on the hub or from transformers 5.

    Raises UserError for what is missing or not supported.
    """
    vision, text = config.section("vision_config", {}), config.section("text_config")
    expect_unquantized(config)
    config.expect(COMMON)
    text.expect(PLAIN_TEXT)
    vision.expect(PLAIN_VISION)
    tied = bool(config.boolean("tie_word_embeddings", None))
    return Vlm(
        family="smolvlm",
        vision=TileVision(
            siglip.tower(vision, TOWER),
            PixelShuffle(config.count("scale_factor", 2)),
            config.integer("image_token_id", 128257),
        ),
        text=llama.decoder(text, tied, TEXT),
        bos_token_id=text.token_id("bos_token_id", 1),
        # Filled from generation_config.json and the tokenizer where the checkpoint has them.
        stop_token_ids=text.token_ids("eos_token_id"),
    )


def sources(vlm: Vlm) -> dict[str, Source]:
    """Maps each tensor name of the model (GGUF's names) to its tensor in the checkpoint."""
    return {name: Source(_hub_name(name)) for name in shapes(vlm)}


def _hub_name(canonical: str) -> str:
    if canonical.startswith("v."):
        return f"model.vision_model.{siglip.hub_name(canonical)}"
    if canonical == "mm.model.fc.weight":
        return "model.connector.modality_projection.proj.weight"
    return llama.hub_name(canonical, "model.text_model")


def image(vlm: Vlm, preprocessor: Section) -> Tiles:
    """Makes the image recipe from preprocessor_config.json, as Idefics3ImageProcessor does.

    Raises UserError for settings that the recipe cannot express.
    """
    preprocessor.expect(STEPS)
    expected = vlm.require_vision().tower.image_size
    tile = _longest_edge(preprocessor, "max_image_size", expected)
    if tile != expected:
        raise UserError(
            f"{preprocessor.file}: max_image_size {tile} is not the vision tower's image_size "
            f"{expected} of config.json; take both files from the same checkpoint"
        )
    return Tiles(
        tile=tile,
        longest_edge=_longest_edge(preprocessor, "size", 4 * tile),
        split=preprocessor.boolean("do_image_splitting", True),
        mean=channels(preprocessor, "image_mean"),
        std=channels(preprocessor, "image_std"),
        rescale=rescale(preprocessor),
    )


def _longest_edge(preprocessor: Section, key: str, default: int) -> int:
    return preprocessor.section(key, {"longest_edge": default}).count("longest_edge")


def _vision_keys(vision: Vision, image: ImageRecipe) -> dict[str, int]:
    assert isinstance(vision, TileVision)
    assert isinstance(vision.projector, PixelShuffle)
    assert isinstance(image, Tiles)
    return {
        "clip.vision.preproc_image_size": min(image.longest_edge, image.max_edge),
        "clip.vision.projector.scale_factor": vision.projector.scale,
    }


def prompt(vlm: Vlm, config: Section) -> Prompt:
    """Makes the prompt template: one user turn of the chat template.

    Images are written as in transformers' processing_idefics3.py.
    """
    around, tokens = "<fake_token_around_image>", "{tokens}"
    return Prompt(
        with_images="<|im_start|>User:{images}{question}<end_of_utterance>\nAssistant:",
        text_only="<|im_start|>User: {question}<end_of_utterance>\nAssistant:",
        tile=around + "<row_{row}_col_{col}>" + tokens,
        row_end="\n",
        overview=f"\n{around}<global-img>{tokens}{around}",
        single=f"{around}<global-img>{tokens}{around}",
        image_token="<image>",
        tokens_per_tile=vlm.require_vision().tokens_per_tile,
    )


SMOLVLM = Family(
    name="smolvlm",
    model_types=("idefics3", "smolvlm"),
    read=read,
    sources=sources,
    image=image,
    prompt=prompt,
    image_in_template="<image>",
    special_tokens=(
        "<|im_start|>",
        "<global-img>",
        *(f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)),
        "<fake_token_around_image>",
        "<image>",
        "<end_of_utterance>",
    ),
    gguf=Gguf(
        arch="llama",
        projector_type="idefics3",
        tokenizer="gpt2",
        tokenizer_pre="smollm",
        vision_keys=_vision_keys,
        stated=(
            "vocab_size",
            "attention.key_length",
            "attention.value_length",
            "rope.dimension_count",
        ),
        space_prefix=True,
        arranged={
            "blk.*.attn_q.weight": "interleaved_heads",
            "blk.*.attn_k.weight": "interleaved_heads",
        },
        floats={"v.patch_embd.*": 32, "v.position_embd.*": 32},
    ),
    layout="onnx-vision",  # faster than mmproj: docs/notes/2026-11-gguf-image-encoders.md
    stop_tokens=("<end_of_utterance>",),
    ignored=("*.position_ids", "*.rotary_emb.inv_freq"),
    # Saved from Idefics3Model or SmolVLMModel, the class without a head.
    prefixes=tuple(
        (f"{part}.", f"model.{part}.") for part in ("text_model", "vision_model", "connector")
    ),
    clients={
        "transformers.js": Client(
            text_model_type="llama",
            processor="Idefics3Processor",
            image_processor="Idefics3ImageProcessor",
            tokens_key="image_seq_len",
            padded_tiles=True,
            limits=(
                "transformers.js resizes with other filters than Pillow, so of an image that is "
                "not one tile already it sees slightly different pixels",
            ),
        ),
    },
)
