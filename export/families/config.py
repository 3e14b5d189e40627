"""Values that config.json has in the same way for every family. NOT aware of any family."""

from collections.abc import Mapping

from export.errors import UserError
from export.families.spec import Activation

ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def activation(name: str) -> Activation:
    """An activation by its name in transformers. Raises UserError for others than ours."""
    if name not in ACTIVATIONS:
        raise UserError(f"config.json: hidden_act '{name}' is not one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def token_ids(value: int | list[int] | None) -> tuple[int, ...]:
    """An id, several or none."""
    return () if value is None else (value,) if isinstance(value, int) else tuple(value)
