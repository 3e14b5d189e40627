"""Peak memory of a process that answers requests: what every target's model of it is made of.

Such a model is a sum of stated parts. Parts come from shapes; constants were measured on x86-64
with the runtimes of constraints.txt (docs/notes/2026-11-peak-memory.md).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from export.count import FLOAT_BYTES, cache_bytes_per_token
from export.images import ImageRecipe
from export.modeling.tensors import Shape
from export.modeling.vlm import Vlm, component, shapes
from export.quantize.recipe import Recipe, Storage

MB = 10**6
TOKENIZER = 265
"""Bytes of the loaded tokenizer for each entry of the vocabulary, measured on synthetic ones."""
Files = Mapping[str, int]


@dataclass(frozen=True)
class RequestSize:
    """Requests, one after another, each with one image."""

    tiles: int
    """Of the image; 0: no image."""
    positions: int
    """Of the cache, that the prompt and its answer take."""
    context: int
    """Positions that the cache is made for."""


@dataclass(frozen=True)
class RuntimeMemory:
    """How the runtime that opens a target's artifacts spends memory on a CPU."""

    runtime: str
    """Its name in the table RUNTIMES."""
    cache_value_bytes: int
    """Of a key's or a value's element."""
    peak_bytes: Callable[[Vlm, Recipe, Files, RequestSize], int]
    """Peak of the process, from the sizes of the target's files."""

    def cache_bytes_per_token(self, vlm: Vlm) -> int:
        """Bytes of the keys and values of one position."""
        return cache_bytes_per_token(vlm, self.cache_value_bytes)


def full_context(vlm: Vlm, image: ImageRecipe | None, context: int) -> RequestSize:
    """The largest request of a context: an image of the most tiles that its recipe allows and the
    context has room for, then text up to the end."""
    tiles = image.most_tiles if image else 0
    while vlm.image_positions(tiles) > context:
        tiles -= 1
    return RequestSize(tiles, context, context)


def matrices(vlm: Vlm, recipe: Recipe) -> Iterator[tuple[str, Shape, str, Storage]]:
    """Name, shape, component and storage of every weight with two axes or more.

    A tied embedding comes twice: as itself and as the decoder's head.
    """
    for name, shape in shapes(vlm).items():
        if len(shape) > 1:
            part, storage = component(name), recipe.storage(name, shape)
            yield name, shape, part, storage
            if part == "embedding" and vlm.text.tied:
                yield name, shape, "decoder", storage


def pixels_bytes(vlm: Vlm, request: RequestSize) -> int:
    """The image's tiles as floats, which a session holds until the answer is complete."""
    if not request.tiles:
        return 0
    v = vlm.require_vision().tower
    return request.tiles * v.channels * v.image_size**2 * FLOAT_BYTES


def tower_matrix_bytes(vlm: Vlm) -> int:
    """The widest matrix of one tile's tower: [patches, intermediate] floats."""
    tower = vlm.require_vision().tower
    return tower.patches * tower.intermediate * FLOAT_BYTES
