"""Parts from which each target predicts the peak memory of a process that runs its artifacts.

A prediction is a sum of parts. Parts come from shapes; constants were measured on x86-64 with the
runtimes of constraints.txt (docs/notes/2026-11-peak-memory.md).
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
    """The size of the requests for which memory is predicted; they are answered one by one.

    tiles: of the one image of a request; 0: no image. positions: how many positions of the
    key-value cache prompt and answer fill. context: how many the cache is allocated for.
    """

    tiles: int
    positions: int
    context: int


@dataclass(frozen=True)
class RuntimeMemory:
    """Predicts how much memory a runtime takes on a CPU to run the artifacts of one target.

    runtime: its name in the table RUNTIMES. cache_value_bytes: size of one number in the key-value
    cache. peak_bytes: predicts the peak of the process from the model, the recipe, the target's
    files (name -> bytes) and the request.
    """

    runtime: str
    cache_value_bytes: int
    peak_bytes: Callable[[Vlm, Recipe, Files, RequestSize], int]

    def cache_bytes_per_token(self, vlm: Vlm) -> int:
        """Returns the bytes that one position takes in the key-value cache of all layers."""
        return cache_bytes_per_token(vlm, self.cache_value_bytes)


def full_context(vlm: Vlm, image: ImageRecipe | None, context: int) -> RequestSize:
    """Returns the largest request for a context of `context` positions.

    It has one image with as many tiles as its recipe allows and fit, then text up to the end. It
    has text alone where `image` is None.
    """
    tiles = image.most_tiles if image else 0
    while vlm.image_positions(tiles) > context:
        tiles -= 1
    return RequestSize(tiles, context, context)


def matrices(vlm: Vlm, recipe: Recipe) -> Iterator[tuple[str, Shape, str, Storage]]:
    """Yields name, shape, component and storage type of every weight with two or more axes.

    A tied embedding is yielded twice: for the embedding and for the decoder's output head.
    """
    for name, shape in shapes(vlm).items():
        if len(shape) > 1:
            part, storage = component(name), recipe.storage(name, shape)
            yield name, shape, part, storage
            if part == "embedding" and vlm.text.tied:
                yield name, shape, "decoder", storage


def pixels_bytes(vlm: Vlm, request: RequestSize) -> int:
    """Returns the bytes of a request's image as float32 tiles, held until its answer ends."""
    if not request.tiles:
        return 0
    v = vlm.require_vision().tower
    return request.tiles * v.channels * v.image_size**2 * FLOAT_BYTES


def tower_matrix_bytes(vlm: Vlm) -> int:
    """Returns the bytes of the largest matrix while the vision encoder encodes one tile.

    It has [patches, intermediate] float32 values.
    """
    tower = vlm.require_vision().tower
    return tower.patches * tower.intermediate * FLOAT_BYTES
