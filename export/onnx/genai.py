"""Makes the files that onnxruntime-genai 0.18 reads in addition to the graphs.

genai_config.json names the graphs and their tensors; the image processor is a list of operations of
onnxruntime-extensions.
"""

import json
from collections.abc import Mapping
from typing import Any

from export.checkpoint.registry import CONFIG, GENERATION
from export.families.spec import Client
from export.files import parse_json
from export.images import Crops, ImageRecipe, Patches, Stretch, Tiles
from export.model import Model
from export.modeling.rotary import STORED_POSITIONS
from export.onnx.layouts import layout_of

GENAI_CONFIG, VISION_PROCESSOR = "genai_config.json", "vision_processor.json"
"""Not onnxruntime-genai's default, processor_config.json, because checkpoints have such a file."""
LENGTH = 4096
"""Default max_length in positions: a cache for all that a model allows can take gigabytes."""
Step = tuple[str, Mapping[str, Any]]
KIND: Mapping[str, str] = {"bilinear": "LINEAR", "bicubic": "CUBIC", "lanczos": "LANCZOS"}


def files(model: Model, client: Client, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Returns genai_config.json and vision_processor.json: file name -> content.

    `client`: onnxruntime-genai's names for the model's family. `sizes`: bytes of the files of the
    graphs by path; only the paths are used.
    """
    made = {GENAI_CONFIG: _config(model, client, sizes), VISION_PROCESSOR: _processor(model.image)}
    return {name: (json.dumps(value, indent=2) + "\n").encode() for name, value in made.items()}


def _config(model: Model, client: Client, sizes: Mapping[str, int]) -> dict[str, Any]:
    vlm, text = model.vlm, model.vlm.text
    graphs = [name for name in sizes if name.endswith(".onnx")]
    vision, embedding, decoder = graphs
    context = min(text.context, STORED_POSITIONS)
    parts = {
        "decoder": {
            "filename": decoder,
            "head_size": text.head_dim,
            # Only used as the width of embeddings.
            "hidden_size": layout_of(vlm, "genai").width(vlm),
            "num_attention_heads": text.heads,
            "num_hidden_layers": text.layers,
            "num_key_value_heads": text.kv_heads,
            "inputs": {
                "inputs_embeds": "inputs_embeds",
                "attention_mask": "attention_mask",
                "position_ids": "position_ids",
                "past_key_names": "past_key_values.%d.key",
                "past_value_names": "past_key_values.%d.value",
            },
            "outputs": {
                "logits": "logits",
                "present_key_names": "present.%d.key",
                "present_value_names": "present.%d.value",
            },
        },
        "embedding": {
            "filename": embedding,
            "inputs": {"input_ids": "input_ids", "image_features": "image_features"},
            "outputs": {"inputs_embeds": "inputs_embeds"},
        },
        "vision": {"filename": vision, "config_filename": VISION_PROCESSOR, **_vision(model)},
    }
    return {
        "model": {
            "type": client.model_type,
            "vocab_size": text.vocab,
            "context_length": context,
            **({} if vlm.bos_token_id is None else {"bos_token_id": vlm.bos_token_id}),
            "eos_token_id": list(vlm.stop_token_ids),
            "pad_token_id": _named(model, "pad_token_id", vlm.stop_token_ids[0]),
            **_image_tokens(model),
            **parts,
        },
        "search": {
            "do_sample": False,
            "max_length": min(context, LENGTH),
            "past_present_share_buffer": True,
        },
    }


def _image_tokens(model: Model) -> dict[str, int | None]:
    """Returns the ids of image tokens, by their keys in genai_config.json.

    Decoders with three-axis rotary positions also need the ids of video and of vision-start tokens,
    from which onnxruntime-genai derives the positions; -1 if the checkpoint has none.
    """
    ids: dict[str, int | None] = {"image_token_id": model.vlm.image_token_id}
    if model.vlm.text.rope_sections is None:
        return ids
    return ids | {
        key: _named(model, key, -1) for key in ("video_token_id", "vision_start_token_id")
    }


def _vision(model: Model) -> dict[str, Any]:
    inputs = {"pixel_values": "pixel_values"}
    found: dict[str, Any] = {"outputs": {"image_features": "image_features"}, "inputs": inputs}
    if isinstance(model.image, Patches):
        inputs["image_grid_thw"] = "image_grid_thw"
        found["spatial_merge_size"] = model.image.merge_size
        found["patch_size"] = model.image.patch_size
    return found


def _processor(image: ImageRecipe | None) -> dict[str, Any]:
    """Writes the image preprocessing as a list of onnxruntime-extensions' operations.

    Their Resize is Pillow's code.
    """
    match image:
        case Patches():
            square = {"patch_size": image.patch_size, "merge_size": image.merge_size}
            resize = {
                "smart_resize": 1,
                "keep_aspect_ratio": 0,
                "min_pixels": image.min_pixels,
                "max_pixels": image.most_pixels,
                **square,
            }
            last: Step = (
                "PatchImage",
                {"temporal_patch_size": image.temporal_patch_size, **square},
            )
        case Stretch():
            resize = {"width": image.size, "height": image.size, "keep_aspect_ratio": 0}
            last = ("Permute3D", {"dims": [2, 0, 1]})
        case Tiles() | Crops() | None:
            raise AssertionError("onnxruntime-genai has no family with this image recipe")
    steps: list[Step] = [
        ("DecodeImage", {"color_space": "RGB"}),
        ("Resize", {"interpolation": KIND[image.resample], **resize}),
        ("Rescale", {"rescale_factor": image.rescale}),
        ("Normalize", {"mean": list(image.mean), "std": list(image.std)}),
        last,
    ]
    operations = [
        {"operation": {"name": kind.lower(), "type": kind, "attrs": attributes}}
        for kind, attributes in steps
    ]
    return {"processor": {"name": "image_processor", "transforms": operations}}


def _named(model: Model, key: str, default: int) -> int:
    """Returns the id `key` of generation_config.json, or of config.json, or `default`."""
    for name in (GENERATION, CONFIG):
        found = parse_json(model.files[name], name).get(key) if name in model.files else None
        if isinstance(found, int):
            return found
    return default
