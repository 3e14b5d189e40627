"""Predicted footprints of models x targets x recipes, and which device profiles they fit.

Reads configurations only: no weights, no network, no runtime's library. NOT aware of baselines.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.machine.profiles import PROFILES
from export.checkpoint.registry import open_model
from export.errors import UserError
from export.footprint import footprint
from export.footprint.memory import MEMORY, full_context
from export.model import Model
from export.quantize.recipe import RECIPES
from export.targets import TARGETS
from runtimes.session.loop import room


@dataclass(frozen=True)
class Prediction:
    """One export that was not made."""

    model: str
    target: str
    recipe: str
    disk_bytes: int
    kv_bytes_per_token: int
    peak_bytes: int
    fits: Mapping[str, bool]
    """Profile -> whether the runtime exists there and the peak is within its budget."""
    files: Mapping[str, int]


def predict(
    models: Iterable[str],
    targets: Sequence[str] = tuple(TARGETS),
    recipes: Sequence[str] = tuple(RECIPES),
    context: int | None = None,
) -> tuple[list[Prediction], list[str]]:
    """The rows, and a line for each model or its exports that cannot be, with the reason.

    Peaks are those of a request that fills `context` positions (default: what a session has).
    """
    rows: list[Prediction] = []
    refusals: list[str] = []
    for name in models:
        try:
            model = open_model(name, weights="synthetic")
        except UserError as error:
            refusals.append(f"{name}: {error}")
            continue
        for target in targets:
            refused: dict[str, list[str]] = {}
            for recipe in recipes:
                try:
                    rows.append(_prediction(model, target, recipe, context))
                except UserError as error:
                    refused.setdefault(str(error), []).append(recipe)
            refusals += [f"{name} {target} {', '.join(of)}: {why}" for why, of in refused.items()]
    return rows, refusals


def _prediction(model: Model, target: str, recipe: str, context: int | None) -> Prediction:
    work = full_context(model.vlm, model.image, room(model.vlm, context))
    found = footprint(model, RECIPES[recipe], target, work)
    runtime = MEMORY[target].runtime
    fits = {
        name: runtime in profile.runtimes and found.peak_bytes <= profile.memory_bytes
        for name, profile in PROFILES.items()
    }
    return Prediction(
        model=model.name,
        target=target,
        recipe=recipe,
        disk_bytes=found.disk_bytes,
        kv_bytes_per_token=found.kv_bytes_per_token,
        peak_bytes=found.peak_bytes,
        fits=fits,
        files=found.files,
    )
