"""Finds the artifacts that a run measures: in build/, or by exporting them there first.

Each export runs in a process of its own, `python -m export`, so that its memory use and crashes do
not affect the run. A failed export becomes a candidate that cannot be measured, with the reason.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from bench.jobs.child import StopConditions, run_child
from bench.jobs.launch import command
from bench.jobs.limits import Limits, choose_cpus
from bench.jobs.processes import variables
from bench.subjects import Candidate, candidate, checkpoint
from export.artifact import load_artifact, verify_digests
from export.checkpoint.registry import WeightsKind, open_model
from export.errors import UserError
from export.manifest import MANIFEST
from export.model import Model
from export.opening import is_artifact
from export.origin import identity
from export.targets import TARGETS, folder_name
from runtimes.devices import usable_cpus

GRACE_S = 5.0  # to remove a half-written artifact


@dataclass(frozen=True)
class ExportRequest:
    """Which exports of each named model to measure: every target with every recipe.

    `weights` and `offline` are the options of the same names of `bench run`.
    """

    targets: Sequence[str]
    recipes: Sequence[str]
    itself: bool
    """Whether to measure the model's checkpoint too, without an export."""
    weights: WeightsKind | None = None
    offline: bool = False


def candidates(
    names: Sequence[str],
    request: ExportRequest,
    notify: Callable[[str], None],
    build: Path = Path("build"),
) -> list[Candidate]:
    """Open each name: an artifact's folder, or a model, of which the requested exports are taken.

    Exports that are missing in the folder `build` are made first; `notify` gets a sentence about
    each. Raises UserError for other names. An artifact whose files have changed since its export is
    a candidate like others: its jobs fail when they open it.
    """
    made: list[Candidate] = []
    for name in names:
        if is_artifact(name):
            made.append(candidate(name, request.offline))
            continue
        if request.itself:
            made.append(candidate(name, request.offline, request.weights))
        pairs = list(product(request.targets, request.recipes))
        if pairs:
            model = open_model(name, weights=request.weights, offline=request.offline)
            own = _own_folder(build, model, made)
            made += [_artifact(name, model, pair, request, notify, own) for pair in pairs]
    return _with_checkpoints(made)


def _with_checkpoints(made: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates, artifacts with the checkpoint of their origin if it is one of them."""
    own = {identity(c.subject.origin): c.location for c in made if c.subject.target is None}
    return [
        replace(c, checkpoint=own.get(identity(c.subject.origin), c.checkpoint))
        if c.subject.target is not None
        else c
        for c in made
    ]


def _own_folder(build: Path, model: Model, made: Sequence[Candidate]) -> Path:
    """Returns the folder for a model's artifacts; not that of another model of the same name."""
    own = identity(checkpoint(model).origin)
    names = {one.subject.model for one in made if identity(one.subject.origin) != own}
    return build / (f"{model.name}@{own[:7]}" if model.name in names else model.name)


def _artifact(
    name: str,
    model: Model,
    pair: tuple[str, str],
    request: ExportRequest,
    notify: Callable[[str], None],
    own: Path,
) -> Candidate:
    target, recipe = pair
    layout = TARGETS[target].layout_for(model.vlm)
    folder = own / folder_name(target, recipe, layout)
    if is_of(folder, model):
        return replace(candidate(str(folder)), checkpoint=name)
    notify(f"exporting {model.name} as {target} {recipe} to {folder}")
    problem = export(name, target, recipe, folder, request)
    if problem is None:
        return replace(candidate(str(folder)), checkpoint=name)
    subject = replace(checkpoint(model), target=target, recipe=recipe, layout=layout)
    unmade = replace(subject, disk_bytes=None)
    return Candidate(unmade, str(folder), problem=f"it could not be exported: {problem}")


def is_of(folder: Path, model: Model) -> bool:
    """Whether the folder has an undamaged artifact that was exported from this very model."""
    if not (folder / MANIFEST).exists():
        return False
    try:
        artifact = load_artifact(folder)
        if identity(artifact.manifest.origin) != identity(checkpoint(model).origin):
            return False
        verify_digests(artifact)
    except UserError:
        return False
    return True


def export(name: str, target: str, recipe: str, folder: Path, request: ExportRequest) -> str | None:
    """Export a model to a folder in a child process; return None, or why that failed.

    `name` is the model's name or folder. With random weights the export skips its proof: their
    answers are meaningless, and the proof of a large model takes longer than measuring it.
    """
    words = [name, "--target", target, "--recipe", recipe, "--out", str(folder)]
    words += ["--weights", request.weights] if request.weights else []
    words += ["--no-verify"] if request.weights == "synthetic" else []
    words += ["--offline"] if request.offline else []
    limits = Limits(os.getpid(), choose_cpus(usable_cpus()), None)
    program = command(limits, "export", *words)
    stop = StopConditions(grace_s=GRACE_S)
    try:
        ending = run_child(program, b"", variables(usable_cpus()), stop, lambda line: False)
    except OSError as error:
        return error.strerror or str(error)
    return None if ending.code == 0 else f"exit code {ending.code}; {ending.last_output}"
