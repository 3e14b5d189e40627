"""Gives PocketVLM's tensors the names, shapes and order of values that GGUF files need.

Imports no library except numpy, because runtimes use it to check the shapes in GGUF files.
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
    """One tensor of a GGUF file, made from one tensor of the model or from a part of it.

    name, shape: in the GGUF file. source, source_shape: of the model's tensor, under its canonical
    (PocketVLM's) name. unit: rows of the source that can only be converted together, such as those
    of one attention head. arrange: takes some of the source's rows, a multiple of `unit`, and
    returns their values in the file's order.
    """

    name: str
    shape: Shape
    source: str
    source_shape: Shape
    unit: int = 1
    arrange: Callable[[FloatArray], FloatArray] = np.ascontiguousarray

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


def pieces(vlm: Vlm, facts: Gguf) -> Mapping[str, tuple[Piece, ...]]:
    """Maps the canonical name of each tensor of the model to the GGUF tensors made from it.

    `facts` are llama.cpp's conventions for the model's family. Most tensors become one GGUF tensor.
    """
    return {
        name: arranged(name, shape, arrangement_of(name, facts), vlm.text.head_dim)
        for name, shape in shapes(vlm).items()
    }


def arrangement_of(name: str, facts: Gguf) -> Arrangement | None:
    """Returns how llama.cpp reorders the values of the tensor `name`; None: not at all.

    The first pattern of `facts.arranged` that matches the canonical name decides.
    """
    found = (kind for pattern, kind in facts.arranged.items() if fnmatchcase(name, pattern))
    return next(found, None)


def arranged(
    name: str, shape: Shape, arrangement: Arrangement | None, head_rows: int
) -> tuple[Piece, ...]:
    """Returns the GGUF tensors made from one tensor of the model: one, or with "by_frame" several.

    `name` and `shape` are the model's. `head_rows`: number of rows of an attention head, which
    only "interleaved_heads" uses.
    """
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
    """Reorders the rows of each head so that rows i and i + head_rows / 2 become neighbours.

    `values` [rows, columns] are the rows of whole heads. llama.cpp's llama architecture rotates
    neighbouring pairs (RoFormer), and transformers rotates pairs of the two halves;
    `LlamaModel.permute` of llama.cpp's converter is the same reordering.
    """
    halves = values.reshape(-1, 2, head_rows // 2, values.shape[-1])  # [heads, half, pair, columns]
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def _transposed(values: FloatArray) -> FloatArray:
    return np.ascontiguousarray(values.T)


def _folded(values: FloatArray) -> FloatArray:
    """Adds the left and the right half of the columns: W [x | x] = (W_left + W_right) x."""
    left, right = np.split(values, 2, axis=-1)
    return left + right


def _of_frame(values: FloatArray, frame: int) -> FloatArray:
    """Selects one frame of [rows, channels, frames, height, width], and drops that axis."""
    return np.ascontiguousarray(values[:, :, frame])
