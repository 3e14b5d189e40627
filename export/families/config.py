"""Reads settings that config.json has in the same way for every family."""

from collections.abc import Mapping

from export.errors import UserError
from export.families.section import Section
from export.files import short
from export.modeling.ops import Activation

CONFIG = "config.json"

ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def rope_of(text: Section, *allowed: str) -> Section:
    """Returns the section that has rope_theta: rope_parameters (transformers 5), or `text` itself.

    Raises UserError if its rope_type is not in `allowed`.
    """
    saved = text.section("rope_parameters", None)
    scaling = text.section("rope_scaling", None)
    expect_rope(saved or scaling, *allowed)
    return saved or text


def expect_rope(rope: Section | None, *allowed: str) -> None:
    """Raises UserError if the rope_type of `rope` is not in `allowed`; None passes."""
    if rope is None:
        return
    kind = rope.string("rope_type", None) or rope.string("type", None) or "default"
    if kind not in allowed:
        raise UserError(
            f"{rope.file}: rope_type '{short(kind)}' is not supported, only "
            f"{' or '.join(allowed)} is"
        )
