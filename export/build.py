"""Makes an artifact of an opened model: writes its files and artifact.json, and runs the proof."""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from export.artifact import Artifact, digests, load_artifact, new_folder, save_manifest
from export.errors import UserError
from export.manifest import SCHEMA, Manifest
from export.model import Model
from export.proof import Proof
from export.quantize.recipe import Recipe
from export.target import Target, Written

Prove = Callable[[Model, Artifact], Proof]

TOOLS: Mapping[str, str] = {
    "export": "pocket-vlm",
    "numpy": "numpy",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
}
"""Module -> its distribution on PyPI; artifact.json records the versions of those in use."""


class ProofFailed(Exception):
    """Raised where an artifact's results differ too much from its checkpoint's.

    The artifact was deleted; `proof` has the figures.
    """

    def __init__(self, proof: Proof) -> None:
        super().__init__("; ".join(proof.failures))
        self.proof = proof


@dataclass(frozen=True)
class ExportSpec:
    """What `build` is to write: the format, the precision of the weights, the files' arrangement.

    target: a name in the table TARGETS. layout: one of that target's layouts. allow_drift: whether
    to keep an artifact whose proof fails.
    """

    target: str
    recipe: Recipe
    layout: str
    allow_drift: bool = False


def build(
    model: Model,
    spec: ExportSpec,
    out: Path,
    *,
    targets: Mapping[str, Target],
    prove: Prove | None = None,
    stage: Callable[[str], None] = lambda name: None,
) -> Artifact:
    """Exports `model` as `spec` says into the folder `out` and returns the artifact.

    `prove` compares the new artifact with the model; None: no proof. `stage` is called with
    "write", then "prove", as each begins. Raises UserError, and ProofFailed for a failed proof
    unless `spec.allow_drift`; after either, `out` is as it was before.
    """
    target, recipe = targets[spec.target], spec.recipe
    if spec.layout not in target.layouts:
        raise UserError(
            f"target {spec.target} has no layout '{spec.layout}'; expected one of "
            f"{', '.join(target.layouts)}"
        )
    if recipe.targets and spec.target not in recipe.targets:
        raise UserError(
            f"recipe {recipe.name} needs types of target {', '.join(recipe.targets)}, which "
            f"{spec.target} does not have; choose int4 or int8"
        )
    target.expect(recipe, model.vlm.family)
    tools = {**TOOLS, **target.tools}
    with new_folder(out, estimated_bytes(model, recipe)) as folder:
        stage("write")
        written = target.write(model, recipe, folder, spec.layout)
        for name, data in target.client_files(model, recipe, spec.layout).items():
            (folder / name).write_bytes(data)
        manifest = _manifest(model, spec, written, folder, tools)
        if prove is not None:
            stage("prove")
            proof = prove(model, Artifact(folder, manifest))
            if proof.passed is False and not spec.allow_drift:
                raise ProofFailed(proof)
            manifest = replace(manifest, proof=proof, tools=_versions(tools))
        save_manifest(manifest, folder)
        load_artifact(folder)
    return load_artifact(out)


def estimated_bytes(model: Model, recipe: Recipe) -> int:
    """Estimates an artifact's size in bytes, from the bits per weight and the tokenizer files.

    Each block of quantized weights counts with a scale of 16 bits.
    """
    bits = 0.0
    for name, shape in model.weights.shapes().items():
        storage = recipe.storage(name, shape)
        scale = 16 / storage.block if storage.quantized else 0
        bits += math.prod(shape) * (storage.bits + scale)
    return int(bits / 8) + sum(map(len, model.files.values()))


def _manifest(
    model: Model, spec: ExportSpec, written: Written, folder: Path, tools: Mapping[str, str]
) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        model=model.name,
        origin=model.weights.origin,
        synthetic=model.weights.synthetic,
        vlm=model.vlm,
        image=model.image,
        prompt=model.prompt,
        target=spec.target,
        recipe=spec.recipe.name,
        recipe_used=spec.recipe.used,
        layout=spec.layout,
        files=digests(folder),
        components=written.components,
        quantization=written.quantization,
        details=replace(written.details, limits=(*model.notes, *written.details.limits)),
        tools=_versions(tools),
        proof=None,
    )


def _versions(tools: Mapping[str, str]) -> dict[str, str]:
    """Returns the versions of Python and of those `tools` that this process has imported.

    `tools` maps modules to distributions, the result distributions to versions.
    """
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for module, distribution in sorted(tools.items()):
        if module in sys.modules:
            try:
                found[distribution] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue  # run from a checkout that is not installed
    return found
