"""What an artifact takes before it is made: exact bytes on disk, and memory while it runs.

From a model's numbers, its tokenizer files and a recipe; no weight is read. NOT aware of device
profiles, baselines or how anything is shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from export.count import cache_bytes_per_token
from export.footprint.memory import MEMORY, Workload
from export.model import Model
from export.quantize.recipe import Recipe
from export.targets import TARGETS


@dataclass(frozen=True)
class Footprint:
    """Bytes of one model x recipe x target."""

    files: Mapping[str, int]
    """As artifact.json will list them: the target's files and the model's. Not artifact.json."""
    kv_bytes_per_token: int
    peak_bytes: int
    """Of the process that answers, its code included."""

    @property
    def disk_bytes(self) -> int:
        return sum(self.files.values())


def footprint(
    model: Model, recipe: Recipe, target: str, work: Workload, layout: str | None = None
) -> Footprint:
    """Predict an export of `model`, and the memory of `work` on the target's runtime (MEMORY).

    Without a `layout`, of the family's best. Disk bytes are exact for the tokenizer and
    configuration files that the model was opened with.
    Raises UserError where the target cannot hold the model.
    """
    layout = layout or TARGETS[target].layout_for(model.vlm)
    files = dict(TARGETS[target].sizes(model, recipe, layout))
    beside = TARGETS[target].files(model, recipe, layout)
    memory = MEMORY[target]
    return Footprint(
        files=files | {name: len(data) for name, data in beside.items()},
        kv_bytes_per_token=cache_bytes_per_token(model.vlm, memory.cache_value_bytes),
        peak_bytes=memory.peak_bytes(model.vlm, recipe, files, work),
    )
