"""Predicts an artifact before it is made: exact bytes on disk, and peak memory while it answers.

From a model's numbers, its tokenizer files and a recipe; no weight is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from export.memory import RequestSize
from export.model import Model
from export.quantize.recipe import Recipe
from export.target import Target


@dataclass(frozen=True)
class Footprint:
    """Bytes of one model x recipe x target; None where the target cannot predict them."""

    files: Mapping[str, int] | None
    """As artifact.json lists them: the target's files and the model's. Not artifact.json."""
    kv_bytes_per_token: int | None
    peak_bytes: int | None
    """Of the whole process that answers."""

    @property
    def disk_bytes(self) -> int | None:
        return None if self.files is None else sum(self.files.values())


def footprint(
    model: Model, recipe: Recipe, target: Target, request: RequestSize, layout: str | None = None
) -> Footprint:
    """Predict an export of `model`, and the memory of `request` on the target's runtime.

    `layout` is by default the one an export takes. Disk bytes are exact for the tokenizer and
    configuration files that the model was opened with.
    Raises UserError where the target cannot hold the model.
    """
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
