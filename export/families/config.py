"""Reads settings that config.json has in the same way for every family."""

from collections.abc import Mapping

from export.errors import UserError
from export.families.section import Json, Section
from export.files import short
from export.modeling.ops import Activation

CONFIG = "config.json"

ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
}
# Key of any object that describes a network -> the only value that is supported: transformers looks
# for them in the configuration of every architecture.
COMMON: Json = {"is_encoder_decoder": False, "per_layer_config": None}
# The same, of decoders: each layer attends to all positions up to its own, and has its own cache.
DECODER: Json = {
    **COMMON,
    "attention_chunk_size": None,
    "is_causal": True,
    "kv_sharing_modes": None,
}


def expect_unquantized(config: Section) -> None:
    """Raises UserError if config.json says that the weights are quantized."""
    for key in ("quantization_config", "compression_config"):
        if (found := config.section(key, None)) is not None:
            method = found.string("quant_method", None) or "an unknown method"
            raise UserError(
                f"{config.file}: {config.dotted(key)} says that the weights are quantized by "
                f"{short(method)}, but only 16 and 32 bits are read; save the model unquantized"
            )


def expect_full_attention(text: Section) -> None:
    """Raises UserError unless layer_types, if there is one, has only full attention."""
    kinds = text.strings("layer_types", None)
    if set(kinds or ()) - {"full_attention"}:
        raise text.wrong("layer_types", "only full_attention")


def rope_section(text: Section) -> Section:
    """Returns the object that describes the rotary positions of a decoder; empty if there is none.

    It is rope_scaling or, as transformers 5 writes it, rope_parameters; of both it takes the first.
    """
    return text.section("rope_scaling", None) or or_empty(text, "rope_parameters")


def or_empty(section: Section, key: str) -> Section:
    """Reads the object under `key`; without one (absent or null), returns an empty object."""
    return section.section(key, None) or Section({}, section.file, section.dotted(key))


def rope(settings: Section, theta: float, kinds: tuple[str, ...]) -> tuple[float, float]:
    """Returns rope_theta (absent: `theta`) and the factor by which positions are divided.

    Raises UserError if the kind of rotary positions is not in `kinds`.
    """
    kind = settings.string("rope_type", None) or settings.string("type", None) or "default"
    if kind not in kinds:
        raise UserError(
            f"{settings.file}: {settings.path} is of kind {short(kind)}, but only "
            f"{', '.join(kinds)} are supported; if the model was trained without it, remove it"
        )
    settings.expect({"partial_rotary_factor": 1})
    factor = settings.number("factor", above=0) if kind == "linear" else 1.0
    return settings.number("rope_theta", theta), factor
