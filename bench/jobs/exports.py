"""The artifacts of models that a run is about: found in build/, else exported there first.

Each export is a process of its own, `python -m export`, so that its memory and its crashes stay
there; what goes wrong becomes a source with a problem. NOT aware of how artifacts are made or run.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from bench.jobs.child import Bounds, attend
from bench.jobs.launch import command
from bench.jobs.limits import Limits, choose_cpus
from bench.jobs.processes import variables
from bench.jobs.subjects import Source, checkpoint, source
from export.artifact import MANIFEST, load_artifact
from export.checkpoint.registry import WeightsKind, open_model
from export.errors import UserError
from export.model import Model
from export.targets import TARGETS, folder_name
from runtimes.devices import usable_cpus

GRACE_S = 5.0  # for taking back what is half written


@dataclass(frozen=True)
class Wish:
    """What is wanted of every model that is named."""

    targets: Sequence[str]
    recipes: Sequence[str]
    itself: bool
    """Also (or only) the checkpoint as it is."""
    weights: WeightsKind | None = None
    offline: bool = False


def sources(
    names: Sequence[str],
    wish: Wish,
    tell: Callable[[str], None],
    build: Path = Path("build"),
) -> list[Source]:
    """Artifacts as they are, models as wished. Raises UserError for what is neither."""
    found: list[Source] = []
    for name in names:
        if (Path(name) / MANIFEST).exists():
            found.append(source(name, wish.offline))
            continue
        if wish.itself:
            found.append(source(name, wish.offline, wish.weights))
        pairs = list(product(wish.targets, wish.recipes))
        if pairs:
            model = open_model(name, weights=wish.weights, offline=wish.offline)
            found += [_artifact(name, model, pair, wish, tell, build) for pair in pairs]
    return found


def _artifact(
    name: str,
    model: Model,
    pair: tuple[str, str],
    wish: Wish,
    tell: Callable[[str], None],
    build: Path,
) -> Source:
    target, recipe = pair
    layout = TARGETS[target].layout_for(model.vlm)
    place = build / model.name / folder_name(target, recipe, layout)
    if _is_of(place, model):
        return source(str(place))
    tell(f"exporting {model.name} as {target} {recipe} to {place}")
    problem = export(name, target, recipe, place, wish)
    if problem is None:
        return source(str(place))
    subject = replace(checkpoint(model), target=target, recipe=recipe, layout=layout)
    unmade = replace(subject, disk_bytes=None)
    return Source(unmade, str(place), problem=f"it could not be exported: {problem}")


def _is_of(place: Path, model: Model) -> bool:
    """Whether a sound artifact of just these weights is there."""
    if not (place / MANIFEST).exists():
        return False
    try:
        origin = load_artifact(place).manifest.origin
    except UserError:
        return False
    return origin == checkpoint(model).origin


def export(name: str, target: str, recipe: str, place: Path, wish: Wish) -> str | None:
    """Make one artifact; why that was not possible, or None.

    Random weights are not proven: there is nothing right about them, and a large model's proof
    takes longer than measuring it.
    """
    words = [name, "--target", target, "--recipe", recipe, "--out", str(place)]
    words += ["--weights", wish.weights] if wish.weights else []
    words += ["--no-verify"] if wish.weights == "synthetic" else []
    words += ["--offline"] if wish.offline else []
    limits = Limits(os.getpid(), choose_cpus(usable_cpus()), None)
    program = command(limits, "export", *words)
    bounds = Bounds(grace_s=GRACE_S)
    try:
        ending = attend(program, b"", variables(usable_cpus()), bounds, lambda line: False)
    except OSError as error:
        return error.strerror or str(error)
    return None if ending.code == 0 else f"exit code {ending.code}; {ending.said}"
