"""Random weights in the shapes of a real model, to measure latency, memory and size without it.

Values are generated when they are read, from (seed, tensor, chunk of rows) by a counter-based
generator, so any rows can be read alone.
"""

import math
import zlib
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType

import numpy as np

from export.arrays import FloatArray
from export.modeling.tensors import Shape
from export.modeling.vlm import Vlm, shapes
from export.origin import Origin

CHUNK_VALUES = 1 << 18
MASK_64 = (1 << 64) - 1
NORM_SPREAD = 0.05
BIAS_DEVIATION = 0.02
POSITION_DEVIATION = 0.02

# Uniform over the int16 range has this deviation: (2^16 - 1) / sqrt(12).
INT16_DEVIATION = 65535 / math.sqrt(12)


class Synthetic:
    """Weights of random values in a model's shapes, generated from `seed` when they are read.

    They are uniform and rounded to bfloat16, the type of released checkpoints.
    Linear maps have the standard deviation 1/sqrt(fan in), so that activations stay near 1; norm
    weights are near 1; token embeddings have the deviation 1, as image features do.
    """

    synthetic = True

    def __init__(self, vlm: Vlm, seed: int = 0, known: Origin = MappingProxyType({})) -> None:
        self._shapes = shapes(vlm)
        self._embedding_scale = vlm.text.embedding_scale
        self._seed = seed
        self._known_origin = known

    @cached_property
    def origin(self) -> Origin:
        """Identifies the values: "synthetic": seed and name of the generator; and what is known."""
        generated = {"seed": self._seed, "generator": "philox-int16-1"}
        return {**self._known_origin, "synthetic": generated}

    def shapes(self) -> Mapping[str, Shape]:
        """Returns name -> shape of every weight tensor; the names are GGUF's."""
        return self._shapes

    def read(self, name: str, start: int = 0, stop: int | None = None) -> FloatArray:
        """Generates rows [start, stop) of a tensor as float32; stop None: to the end.

        A row has the same values in every range.
        """
        shape = self._shapes[name]
        first, last, _ = slice(start, stop).indices(shape[0])
        out = np.empty((max(0, last - first), *shape[1:]), np.float32)
        row_values = math.prod(shape[1:])
        rows = max(1, CHUNK_VALUES // row_values)
        for chunk in range(first // rows, -(-last // rows) if last > first else 0):
            begin, end = max(first, chunk * rows), min(last, (chunk + 1) * rows)
            values = self._values(name, chunk, (end - chunk * rows) * row_values)
            part = values[(begin - chunk * rows) * row_values :]
            out[begin - first : end - first] = part.reshape(end - begin, *shape[1:])
        return out

    def _values(self, name: str, chunk: int, count: int) -> FloatArray:
        """Generates the first `count` values of the chunk with this index of a tensor."""
        key = [self._seed & MASK_64, zlib.crc32(name.encode())]
        bits = np.random.Philox(key=key, counter=[0, 0, 0, chunk]).random_raw(-(-count // 4))
        values = bits.astype("<u8", copy=False).view("<i2")[:count].astype(np.float32)
        mean, deviation = _distribution(name, self._shapes[name], self._embedding_scale)
        values *= np.float32(deviation / INT16_DEVIATION)
        values += np.float32(mean)
        return _to_bf16(values)


def _distribution(name: str, shape: Shape, embedding_scale: float) -> tuple[float, float]:
    """Returns mean and standard deviation of the random values of a tensor."""
    if len(shape) == 1:
        return (0.0, BIAS_DEVIATION) if name.endswith(".bias") else (1.0, NORM_SPREAD)
    if name == "token_embd.weight":
        return 0.0, 1.0 / embedding_scale
    if name == "v.position_embd.weight":
        return 0.0, POSITION_DEVIATION
    return 0.0, 1 / math.sqrt(math.prod(shape[1:]))


def _to_bf16(values: FloatArray) -> FloatArray:
    """Rounds float32 values in place to the 8 significant bits of bfloat16, half away from zero."""
    bits = values.view(np.uint32)
    bits += np.uint32(0x8000)
    bits &= np.uint32(0xFFFF0000)
    return values
