"""Describes a model's numbers (layers, widths, …) as GGUF metadata, with llama.cpp's keys.

Sources: llama.cpp conversion/{base,llama,smolvlm,qwenvl,gemma}.py (writers), src/models/*.cpp and
tools/mtmd/clip.cpp (readers). Imports no library, because runtimes use it to check the metadata of
GGUF files.
"""

from collections.abc import Mapping, Sequence
from typing import assert_never

from export.errors import UserError
from export.families import FAMILIES
from export.families.spec import Gguf
from export.images import ImageRecipe
from export.modeling.decoder import Decoder
from export.modeling.ops import Activation, NormKind
from export.modeling.vlm import Vlm

Value = bool | int | float | str | Sequence[str] | Sequence[int] | Sequence[float]
Metadata = Mapping[str, Value]

ARCHITECTURE = "general.architecture"
LONGEST_EDGE = "clip.vision.preproc_image_size"
NORM_EPS: Mapping[NormKind, str] = {
    "rms": "attention.layer_norm_rms_epsilon",
    "layer": "attention.layer_norm_epsilon",
}
LOCAL_OF = 6
"""llama.cpp's default for Gemma 3, if a file does not say it: of so many layers, the last one has
global attention and the others a sliding window."""


def facts_of(vlm: Vlm) -> Gguf:
    """Returns llama.cpp's conventions for the model's family, such as its architecture name.

    Raises UserError if PocketVLM cannot write the family as GGUF.
    """
    facts = FAMILIES[vlm.family].gguf
    if facts is None:
        raise UserError(
            f"{vlm.family} cannot be written as GGUF yet; export for the onnx target instead"
        )
    return facts


def decoder(vlm: Vlm, facts: Gguf) -> dict[str, Value]:
    """Returns the text decoder's metadata: keys, with the architecture as prefix, and values."""
    text = vlm.text
    common = {
        "block_count": text.layers,
        "context_length": text.context,
        "embedding_length": text.hidden,
        "feed_forward_length": text.intermediate,
        "attention.head_count": text.heads,
        "attention.head_count_kv": text.kv_heads,
        NORM_EPS[text.norm]: text.norm_eps,
        "rope.freq_base": text.rope_theta,
    }
    stated = {
        "vocab_size": text.vocab,
        "attention.key_length": text.head_dim,
        "attention.value_length": text.head_dim,
        "rope.dimension_count": text.rotated,
    }
    chosen = {key: stated[key] for key in facts.stated}
    return {f"{facts.arch}.{key}": value for key, value in (common | chosen | _rare(text)).items()}


def _rare(text: Decoder) -> dict[str, Value]:
    """Returns metadata that only some decoders need, under keys without the architecture prefix.

    It describes three-axis or scaled rotary positions and sliding windows.
    """
    keys: dict[str, Value] = {}
    if text.rope_sections:
        keys["rope.dimension_sections"] = [*text.rope_sections, 0]
    if text.rope_factor != 1:
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": text.rope_factor}
    if text.sliding:
        keys["attention.sliding_window"] = text.sliding.window
        keys["rope.freq_base_swa"] = text.sliding.rope_theta
        local = [layer in text.sliding.layers for layer in range(text.layers)]
        if local != [bool((layer + 1) % LOCAL_OF) for layer in range(text.layers)]:
            keys["attention.sliding_window_pattern"] = local
    return keys


def _activation(kind: Activation) -> str:
    match kind:
        case "gelu_tanh":
            return "clip.use_gelu"
        case "silu":
            return "clip.use_silu"
        case "gelu":
            raise UserError(
                "config.json: llama.cpp's towers compute gelu by its tanh approximation; export "
                "with --layout onnx-vision"
            )
        case _:
            assert_never(kind)


def vision(vlm: Vlm, image: ImageRecipe, facts: Gguf) -> dict[str, Value]:
    """Returns the metadata of an mmproj file: vision tower, projector and image preprocessing.

    Raises UserError if mmproj files cannot have the family or the tower's activation.
    """
    if facts.projector_type is None:
        raise UserError(
            f"{vlm.family}'s images cannot be written as mmproj; export with --layout onnx-vision"
        )
    part = vlm.require_vision()
    tower = part.tower
    return {
        "clip.has_vision_encoder": True,
        "clip.projector_type": facts.projector_type,
        "clip.vision.projection_dim": vlm.text.hidden,
        "clip.vision.image_size": tower.image_size,
        "clip.vision.patch_size": tower.patch_size,
        "clip.vision.embedding_length": tower.hidden,
        "clip.vision.feed_forward_length": tower.intermediate,
        "clip.vision.block_count": tower.layers,
        "clip.vision.attention.head_count": tower.heads,
        "clip.vision.attention.layer_norm_epsilon": tower.norm_eps,
        "clip.vision.image_mean": list(image.mean),
        "clip.vision.image_std": list(image.std),
        _activation(tower.activation): True,
        **facts.vision_keys(part, image),
    }
