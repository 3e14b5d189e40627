"""Values that config.json has in the same way for every family. NOT aware of any family."""

from collections.abc import Mapping

from export.errors import UserError
from export.families.geometry import Activation
from export.families.spec import Json
from export.files import short

CONFIG = "config.json"

ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def activation(name: str) -> Activation:
    """An activation by its name in transformers. Raises UserError for others than ours."""
    if name not in ACTIVATIONS:
        raise UserError(
            f"{CONFIG}: hidden_act '{short(str(name))}' is not one of {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


def expect(found: Json, plain: Json, file: str = CONFIG) -> None:
    """Raises UserError where a key of `plain` is set (not absent, not null) to something else."""
    for key, expected in plain.items():
        if found.get(key) not in (None, expected):
            raise UserError(
                f"{file}: {key} is {short(str(found[key]))}, but only {expected} is supported for "
                f"this family"
            )


def expect_rope(rope: Json, *allowed: str) -> None:
    """Raises UserError for another kind of rope than those allowed."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in allowed:
        raise UserError(
            f"{CONFIG}: rope_type '{short(str(kind))}' is not supported, only "
            f"{' or '.join(allowed)} is"
        )


def token_ids(value: int | list[int] | None) -> tuple[int, ...]:
    """An id, several or none."""
    return () if value is None else (value,) if isinstance(value, int) else tuple(value)
