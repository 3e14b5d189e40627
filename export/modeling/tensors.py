"""Names and shapes of tensors, in torch's order: rows (outputs) first."""

from collections.abc import Iterator

Shape = tuple[int, ...]
Tensors = Iterator[tuple[str, Shape]]
"""Pairs of a canonical name and a shape."""


def linear(name: str, rows: int, columns: int, bias: bool = True) -> Tensors:
    """Tensors of a linear map from `columns` inputs to `rows` outputs."""
    yield f"{name}.weight", (rows, columns)
    if bias:
        yield f"{name}.bias", (rows,)


def norm(name: str, width: int, bias: bool) -> Tensors:
    """Tensors of a norm over `width` values; layer norms have a bias, RMS norms have none."""
    yield f"{name}.weight", (width,)
    if bias:
        yield f"{name}.bias", (width,)
