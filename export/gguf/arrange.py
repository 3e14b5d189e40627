"""Names, shapes and order of values of canonical tensors in GGUF files.

Imports only numpy, because a runtime checks files against the same shapes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

import numpy as np

from export.arrays import FloatArray
from export.families.spec import Arrangement, Gguf
from export.modeling.tensors import Shape
from export.modeling.vlm import Vlm, shapes


@dataclass(frozen=True)
class Piece:
    """One tensor of a GGUF file, and the canonical tensor it is made from."""

    name: str
    shape: Shape
    source: str
    source_shape: Shape
    unit: int = 1
    """Rows of the source that must be read together."""
    arrange: Callable[[FloatArray], FloatArray] = np.ascontiguousarray
    """Rows of the source -> their values in the file's order, in whatever shape."""

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


def pieces(vlm: Vlm, facts: Gguf) -> Mapping[str, tuple[Piece, ...]]:
    """Canonical name -> the tensors it becomes in the files, in order."""
    return {
        name: arranged(name, shape, arrangement_of(name, facts), vlm.text.head_dim)
        for name, shape in shapes(vlm).items()
    }


def arrangement_of(name: str, facts: Gguf) -> Arrangement | None:
    """llama.cpp's arrangement of a tensor; None: as the canonical one."""
    found = (kind for pattern, kind in facts.arranged.items() if fnmatchcase(name, pattern))
    return next(found, None)


def arranged(
    name: str, shape: Shape, arrangement: Arrangement | None, head_rows: int
) -> tuple[Piece, ...]:
    """The tensors that one canonical tensor becomes."""
    match arrangement:
        case "interleaved_heads":
            arrange = partial(interleaved, head_rows=head_rows)
            return (Piece(name, shape, name, shape, head_rows, arrange),)
        case "transposed":
            return (Piece(name, shape[::-1], name, shape, shape[0], _transposed),)
        case "by_frame":
            rows, channels, frames, *patch = shape
            return tuple(
                Piece(
                    f"{name}.{frame}" if frame else name,
                    (rows, channels, *patch),
                    name,
                    shape,
                    arrange=partial(_of_frame, frame=frame),
                )
                for frame in range(frames)
            )
        case "folded":
            half = (*shape[:-1], shape[-1] // 2)
            return (Piece(name, half, name, shape, arrange=_folded),)
        case None:
            return (Piece(name, shape, name, shape),)


def interleaved(values: FloatArray, head_rows: int) -> FloatArray:
    """Rows i and i + head_rows / 2 of each head become neighbours: [rows, columns] of whole heads.

    llama.cpp's llama architecture rotates neighbouring pairs (RoFormer), transformers' the halves;
    `LlamaModel.permute` of llama.cpp's converter is the same reordering.
    """
    halves = values.reshape(-1, 2, head_rows // 2, values.shape[-1])  # [heads, half, pair, columns]
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def _transposed(values: FloatArray) -> FloatArray:
    return np.ascontiguousarray(values.T)


def _folded(values: FloatArray) -> FloatArray:
    """W [x | x] = (W_left + W_right) x."""
    left, right = np.split(values, 2, axis=-1)
    return left + right


def _of_frame(values: FloatArray, frame: int) -> FloatArray:
    """[rows, channels, frames, height, width] -> [rows, channels, height, width]."""
    return np.ascontiguousarray(values[:, :, frame])
