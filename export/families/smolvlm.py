"""SmolVLM and SmolVLM2 (transformers: Idefics3 and SmolVLM): SigLIP, pixel shuffle, Llama."""

from collections.abc import Mapping

from export.errors import UserError
from export.families import siglip
from export.families.config import activation, expect, expect_rope, token_ids
from export.families.geometry import Decoder, Projector, Tower, Vlm
from export.families.inputs import Prompt, Tiles
from export.families.preprocessor import PREPROCESSOR, channels, rescale
from export.families.spec import Client, Family, Gguf, Json, Source
from export.files import short
from export.shapes import shapes

# Defaults of Idefics3VisionConfig: hub configs leave keys out.
TOWER = Tower(12, 1152, 3072, 16, 224, 32, 1e-6, "gelu_tanh")
# Steps that the recipe always takes (1 is PIL's number of LANCZOS).
STEPS: Json = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "resample": 1,
}


def read(config: Json) -> Vlm:
    """Numbers of a config.json, hub style or as transformers 5 saves it (`rope_parameters`)."""
    vision, text = config.get("vision_config", {}), config["text_config"]
    rope = text.get("rope_parameters") or text
    expect_rope(text.get("rope_parameters") or text.get("rope_scaling") or {}, "default")
    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    return Vlm(
        family="smolvlm",
        vision=siglip.tower(vision, TOWER),
        projector=Projector("pixel_shuffle", config.get("scale_factor", 2)),
        # Defaults from here on are LlamaConfig's.
        text=Decoder(
            layers=text["num_hidden_layers"],
            hidden=hidden,
            intermediate=text["intermediate_size"],
            heads=heads,
            kv_heads=text.get("num_key_value_heads") or heads,
            head_dim=text.get("head_dim") or hidden // heads,
            vocab=text["vocab_size"],
            context=text.get("max_position_embeddings", 2048),
            rope_theta=float(rope.get("rope_theta", 10000.0)),
            norm_eps=text.get("rms_norm_eps", 1e-6),
            activation=activation(text.get("hidden_act", "silu")),
            tied=bool(config.get("tie_word_embeddings", False)),
        ),
        image_token_id=config.get("image_token_id", 128257),
        bos_token_id=text.get("bos_token_id", 1),
        # Filled from generation_config.json and the tokenizer where the checkpoint has them.
        stop_token_ids=token_ids(text.get("eos_token_id")),
    )


def sources(vlm: Vlm) -> dict[str, Source]:
    """Checkpoint names of the canonical tensors; all values are taken as they are."""
    return {name: Source((_hub_name(name),)) for name in shapes(vlm)}


def image(vlm: Vlm, preprocessor: Json) -> Tiles:
    """Image recipe of a preprocessor_config.json (Idefics3's and SmolVLM's image processor).

    Raises UserError for settings that the recipe cannot express.
    """
    expect(preprocessor, STEPS, PREPROCESSOR)
    own = vlm.sight.vision.image_size
    tile = _longest_edge(preprocessor, "max_image_size", own)
    if tile != own:
        raise UserError(
            f"{PREPROCESSOR}: max_image_size {tile} is not the vision tower's image_size "
            f"{own} of config.json; take both files from the same checkpoint"
        )
    return Tiles(
        tile=tile,
        longest_edge=_longest_edge(preprocessor, "size", 4 * tile),
        split=bool(preprocessor.get("do_image_splitting", True)),
        mean=channels(preprocessor, "image_mean"),
        std=channels(preprocessor, "image_std"),
        rescale=rescale(preprocessor),
    )


def prompt(vlm: Vlm, config: Json) -> Prompt:
    """One user turn of the chat template (processing_idefics3.py, processing_smolvlm.py)."""
    around, tokens = "<fake_token_around_image>", "{tokens}"
    return Prompt(
        with_images="<|im_start|>User:{images}{question}<end_of_utterance>\nAssistant:",
        text_only="<|im_start|>User: {question}<end_of_utterance>\nAssistant:",
        tile=around + "<row_{row}_col_{col}>" + tokens,
        row_end="\n",
        overview=f"\n{around}<global-img>{tokens}{around}",
        single=f"{around}<global-img>{tokens}{around}",
        image_token="<image>",
        tokens_per_tile=vlm.tokens_per_tile,
    )


def _longest_edge(preprocessor: Json, key: str, default: int) -> int:
    size = preprocessor.get(key, {"longest_edge": default})
    edge = size.get("longest_edge") if isinstance(size, Mapping) else None
    if not isinstance(edge, int) or edge < 1:
        raise UserError(
            f'{PREPROCESSOR}: {key} is {short(str(size))}, expected {{"longest_edge": pixels}}'
        )
    return edge


PARTS: Mapping[str, str] = {
    "token_embd": "model.text_model.embed_tokens",
    "output_norm": "model.text_model.norm",
    "output": "lm_head",
    "mm.model.fc": "model.connector.modality_projection.proj",
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


def _hub_name(canonical: str) -> str:
    if canonical.startswith("v."):
        return f"model.vision_model.{siglip.hub_name(canonical)}"
    stem, _, kind = canonical.rpartition(".")
    if stem in PARTS:
        return f"{PARTS[stem]}.{kind}"
    index, _, part = stem.removeprefix("blk.").partition(".")
    return f"model.text_model.layers.{index}.{TEXT_BLOCK[part]}.{kind}"


SMOLVLM = Family(
    name="smolvlm",
    model_types=("idefics3", "smolvlm"),
    read=read,
    sources=sources,
    image=image,
    prompt=prompt,
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
