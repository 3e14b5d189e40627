"""Exports a model: opens it, applies the options, writes the artifact and proves it.

The only module of `export` that imports the package `runtimes`, and only when it is needed: a proof
runs the artifact, calibration runs the model.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from export.artifact import Artifact
from export.build import ExportSpec, Prove, build
from export.checkpoint.registry import WeightsKind, open_model
from export.decode import decode
from export.errors import UserError, unknown
from export.model import Model
from export.proof import Proof
from export.quantize.recipe import KNOWN, Calibration, Method, Recipe
from export.target import Target
from export.targets import TARGETS, folder_name


@dataclass(frozen=True)
class ExportOptions:
    """The options of one export; each field is the argument of `export_model` with its name.

    layout: None is the family's best. max_tiles: most tiles of an image. calibrate: use GPTQ, on
    the proof's questions (True) or those of a file. budget_mb: size of the artifact up to which
    sensitive layers get 8 bits. allow_drift: keep an artifact whose proof fails.
    """

    target: str
    recipe: str
    layout: str | None = None
    max_tiles: int | None = None
    rounding: Method | None = None
    calibrate: bool | Path = False
    budget_mb: float | None = None
    allow_drift: bool = False


def export_model(  # noqa: PLR0913 # one keyword for each flag of `python -m export`
    model: str | Path | Model,
    *,
    target: str,
    recipe: str,
    out: str | Path | None = None,
    layout: str | None = None,
    weights: WeightsKind | None = None,
    revision: str | None = None,
    offline: bool = False,
    max_tiles: int | None = None,
    rounding: Method | None = None,
    calibrate: bool | Path = False,
    budget_mb: float | None = None,
    verify: bool = True,
    allow_drift: bool = False,
) -> Artifact:
    """Export a model and prove the artifact; the same as `python -m export`.

    model: a name in models.yaml, a checkpoint folder (safetensors), or an opened `Model`. A Path is
    always a folder.
    target: "onnx", "gguf", "executorch" or "litert".
    recipe: "fp32", "fp16", "int8", "int4", or one of GGUF's own.
    out: the artifact's folder; default build/<model>/<target>-<recipe>[-<layout>]. An artifact
    there is replaced, and only when the new one is complete.
    layout: arrangement of the files; default: the best for the model's family.
    weights: "hub" (trained) or "synthetic" (random). revision: commit, tag or branch on the hub.
    offline: use only the hub's cache. These three do nothing to an opened model.
    max_tiles: cut an image into at most this many tiles, the overview included.
    rounding: "search" (default) or "nearest", for 4-bit weights. calibrate: GPTQ on the proof's
    questions (True) or on those of a JSONL file; needs torch. budget_mb: keep 8 bits in the layers
    that lose most, up to this size in MB (10^6 bytes); needs torch.
    verify: prove the artifact. Without torch the artifact is kept and `manifest.proof` says why
    there is no verdict. allow_drift: keep an artifact whose proof fails.

    Raises UserError for what the caller can mend, ProofFailed for a failed proof. After either,
    `out` is as it was before.
    """
    opened = model
    if not isinstance(opened, Model):
        opened = open_model(opened, weights=weights, revision=revision, offline=offline)
    options = ExportOptions(
        target, recipe, layout, max_tiles, rounding, calibrate, budget_mb, allow_drift
    )
    opened, spec = prepared(opened, options)
    folder = default_out(opened, spec) if out is None else Path(out)
    return build(opened, spec, folder, targets=TARGETS, prove=prove if verify else None)


def prepared(
    model: Model, options: ExportOptions, *, targets: Mapping[str, Target] = TARGETS
) -> tuple[Model, ExportSpec]:
    """Applies the options: returns the model to export and the spec to `build` it with.

    Calibration runs here; the returned model holds its result and the limit on tiles. Raises
    UserError for options that are unknown or contradict each other.
    """
    if options.target not in targets:
        raise unknown("target", options.target, targets)
    if reason := targets[options.target].unavailable():
        raise UserError(f"target {options.target}: {reason}")
    if options.recipe not in KNOWN:
        raise unknown("recipe", options.recipe, KNOWN)
    if options.max_tiles is not None and model.image is not None:
        model = replace(model, image=model.image.within(options.max_tiles))
    layout = options.layout or targets[options.target].layout_for(model.vlm)
    model, recipe = _rounded(model, options, layout, targets[options.target])
    return model, ExportSpec(options.target, recipe, layout, options.allow_drift)


def default_out(model: Model, spec: ExportSpec) -> Path:
    """Returns the default output folder: build/<model>/<target>-<recipe>[-<layout>]."""
    return Path("build") / model.name / folder_name(spec.target, spec.recipe.name, spec.layout)


def prove(model: Model, artifact: Artifact) -> Proof:
    """Compares the artifact's results with the model's and returns verdict and figures."""
    function: Prove = importlib.import_module("runtimes.proof.ladder").prove
    return function(model, artifact)


def _rounded(
    model: Model, options: ExportOptions, layout: str, target: Target
) -> tuple[Model, Recipe]:
    """Applies the options `rounding`, `budget_mb` and `calibrate`. Raises UserError.

    Returns the model, with Hessians if it was calibrated, and the recipe.
    """
    recipe = KNOWN[options.recipe]
    if (recipe.least_bits != 4 or recipe.targets) and (
        options.rounding or options.calibrate or options.budget_mb
    ):
        raise UserError(
            f"recipe {recipe.name} rounds nothing to 4 bits; use --rounding, --calibrate and "
            f"--budget-mb with int4"
        )
    if options.rounding:
        recipe = recipe.rounded(options.rounding)
    questions = options.calibrate if isinstance(options.calibrate, Path) else None
    if options.budget_mb:
        sizes = target.sizes
        if sizes is None:
            raise UserError(
                f"--budget-mb: sizes of target {options.target} are only known after an export; "
                f"leave it out, or choose a recipe with fewer bits"
            )
        within = importlib.import_module("runtimes.calibrate.sensitivity").within
        most = 1 + target.size_error.get(layout, 0.0)

        def largest(tried: Recipe) -> dict[str, int]:
            return {name: ceil(most * size) for name, size in sizes(model, tried, layout).items()}

        recipe = within(model, recipe, largest, options.budget_mb, questions)
    if options.calibrate:
        model = importlib.import_module("runtimes.calibrate.hessian").calibrated(model, questions)
        assert model.hessians is not None
        calibration = decode(Calibration, dict(model.hessians.origin))
        recipe = replace(recipe, calibrated=calibration)
    return model, recipe
