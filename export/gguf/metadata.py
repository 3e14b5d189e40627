"""The numbers that llama.cpp reads beside the tensors, under its converter's keys.

Contracts: llama.cpp conversion/{base,llama,smolvlm}.py (writers), src/llama-arch.cpp and
tools/mtmd/clip.cpp (readers). Imports no library: a runtime checks files against the same numbers.
"""

from collections.abc import Mapping, Sequence

from export.errors import UserError
from export.families import FAMILIES
from export.families.spec import Activation, Gguf, ImageRecipe, Tiles, Vlm

Value = bool | int | float | str | Sequence[str] | Sequence[int] | Sequence[float]
Metadata = Mapping[str, Value]

ARCHITECTURE = "general.architecture"
LONGEST_EDGE = "clip.vision.preproc_image_size"
ACTIVATIONS: Mapping[Activation, str] = {"gelu_tanh": "clip.use_gelu", "silu": "clip.use_silu"}


def facts_of(vlm: Vlm) -> Gguf:
    """What llama.cpp calls this family. Raises UserError where there is no GGUF of it."""
    facts = FAMILIES[vlm.family].gguf
    if facts is None:
        raise UserError(
            f"{vlm.family} cannot be written as GGUF yet; export for the onnx target instead"
        )
    return facts


def tiles_of(vlm: Vlm, image: ImageRecipe | None) -> Tiles:
    """The image recipe as mmproj can have it. Raises UserError where it cannot."""
    if not isinstance(image, Tiles):
        raise UserError(
            f"{vlm.family}'s tower cannot be an mmproj yet; export with --layout onnx-vision"
        )
    return image


def decoder(vlm: Vlm, facts: Gguf) -> dict[str, Value]:
    """Numbers of the text decoder under its architecture's name."""
    text, arch = vlm.text, facts.arch
    return {
        f"{arch}.block_count": text.layers,
        f"{arch}.context_length": text.context,
        f"{arch}.embedding_length": text.hidden,
        f"{arch}.feed_forward_length": text.intermediate,
        f"{arch}.vocab_size": text.vocab,
        f"{arch}.attention.head_count": text.heads,
        f"{arch}.attention.head_count_kv": text.kv_heads,
        f"{arch}.attention.key_length": text.head_dim,
        f"{arch}.attention.value_length": text.head_dim,
        f"{arch}.attention.layer_norm_rms_epsilon": text.norm_eps,
        f"{arch}.rope.freq_base": text.rope_theta,
        f"{arch}.rope.dimension_count": text.head_dim,
    }


def vision(vlm: Vlm, image: Tiles, facts: Gguf) -> dict[str, Value]:
    """Numbers of the vision tower, its projector and its preprocessing."""
    tower, projector = vlm.sight
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
        "clip.vision.projector.scale_factor": projector.scale,
        "clip.vision.image_mean": list(image.mean),
        "clip.vision.image_std": list(image.std),
        LONGEST_EDGE: min(image.longest_edge, image.max_edge),
        ACTIVATIONS[tower.activation]: True,
    }
