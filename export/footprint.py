"""Predicts an artifact before it is made: bytes on disk, and peak memory when it runs.

The prediction needs hyperparameters, tokenizer files and a recipe; no weight is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from export.memory import RequestSize
from export.model import Model
from export.quantize.recipe import Recipe
from export.target import Target


@dataclass(frozen=True)
class Footprint:
    """Predicted sizes of one export in bytes; None where the target cannot predict them.

    files: file name -> bytes, of all files except artifact.json. kv_bytes_per_token: growth of the
    key-value cache with each position. peak_bytes: peak memory of the process that runs the model.
    """

    files: Mapping[str, int] | None
    kv_bytes_per_token: int | None
    peak_bytes: int | None

    @property
    def disk_bytes(self) -> int | None:
        return None if self.files is None else sum(self.files.values())


def footprint(
    model: Model, recipe: Recipe, target: Target, request: RequestSize, layout: str | None = None
) -> Footprint:
    """Predicts the size of an export of `model` and the peak memory of running `request` on it.

    Sizes on disk are exact (or within the target's `size_error`), memory is estimated. layout None:
    the one that an export would choose. Raises UserError if the target cannot represent the model,
    or has no such recipe.
    """
    target.expect(recipe, model.vlm.family)
    layout = layout or target.layout_for(model.vlm)
    memory = target.memory
    cache = None if memory is None else memory.cache_bytes_per_token(model.vlm)
    if target.sizes is None:
        return Footprint(None, cache, None)
    files = dict(target.sizes(model, recipe, layout))
    client_files = target.client_files(model, recipe, layout)
    return Footprint(
        files=files | {name: len(data) for name, data in client_files.items()},
        kv_bytes_per_token=cache,
        peak_bytes=None if memory is None else memory.peak_bytes(model.vlm, recipe, files, request),
    )
