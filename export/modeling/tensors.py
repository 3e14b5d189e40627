"""Lists names and shapes of weight tensors; shapes are in torch's order, outputs (rows) first."""

from collections.abc import Iterator

Shape = tuple[int, ...]
Tensors = Iterator[tuple[str, Shape]]
"""Pairs of a canonical name and a shape."""


def linear(name: str, rows: int, columns: int, bias: bool = True) -> Tensors:
    """Yields name and shape of a linear map's tensors, from `columns` inputs to `rows` outputs."""
    yield f"{name}.weight", (rows, columns)
    if bias:
        yield f"{name}.bias", (rows,)


def norm(name: str, width: int, bias: bool) -> Tensors:
    """Yields name and shape of the tensors of a norm over `width` values.

    Layer norms have a bias, RMS norms have none.
    """
    yield f"{name}.weight", (width,)
    if bias:
        yield f"{name}.bias", (width,)
