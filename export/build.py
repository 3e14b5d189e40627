"""Makes an artifact of an opened model: written, described, proven if wished, then named.

NOT aware of formats, of how a proof is found, or of what is shown to whom.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from export.artifact import (
    SCHEMA,
    Artifact,
    Manifest,
    digests,
    load_artifact,
    new_folder,
    save_manifest,
)
from export.errors import UserError
from export.model import Model
from export.quantize.recipe import Recipe
from export.targets import Quantization, Target, Written

Prove = Callable[[Model, Artifact], Mapping[str, Any]]

# module -> distribution: those that are loaded at the end took part in making the artifact.
TOOLS: Mapping[str, str] = {
    "export": "pocket-vlm",
    "gguf": "gguf",
    "llama_cpp": "llama-cpp-python",
    "numpy": "numpy",
    "onnx": "onnx",
    "onnx_ir": "onnx-ir",
    "onnxruntime": "onnxruntime",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
}


class ProofFailed(Exception):
    """The artifact does not compute what its checkpoint does; nothing of it was kept."""

    def __init__(self, proof: Mapping[str, Any]) -> None:
        super().__init__("; ".join(map(str, proof.get("failures", ()))))
        self.proof = proof


@dataclass(frozen=True)
class Order:
    """What is to be made. `target` is a name in the table TARGETS."""

    target: str
    recipe: Recipe
    layout: str
    allow_drift: bool = False


def build(
    model: Model,
    order: Order,
    out: Path,
    *,
    targets: Mapping[str, Target],
    prove: Prove | None = None,
    stage: Callable[[str], None] = lambda name: None,
) -> Artifact:
    """Make the artifact at `out`. `stage` hears "write", then "prove", as they begin.

    Raises UserError, or ProofFailed unless drift is allowed; then `out` is as it was before.
    """
    target, recipe = targets[order.target], order.recipe
    if order.layout not in target.layouts:
        raise UserError(
            f"target {order.target} has no layout '{order.layout}'; expected one of "
            f"{', '.join(target.layouts)}"
        )
    if recipe.targets and order.target not in recipe.targets:
        raise UserError(
            f"recipe {recipe.name} has types that only target {', '.join(recipe.targets)} has, "
            f"not {order.target}; choose int4 or int8"
        )
    with new_folder(out, estimated_bytes(model, recipe)) as folder:
        stage("write")
        written = target.write(model, recipe, folder, order.layout)
        for name, data in target.files(model, recipe, order.layout).items():
            (folder / name).write_bytes(data)
        manifest = _manifest(model, order, written, folder)
        if prove is not None:
            stage("prove")
            proof = prove(model, Artifact(folder, manifest))
            if proof["passed"] is False and not order.allow_drift:
                raise ProofFailed(proof)
            manifest = replace(manifest, proof=proof, tools=_tools())
        save_manifest(manifest, folder)
        load_artifact(folder)
    return load_artifact(out)


def estimated_bytes(model: Model, recipe: Recipe) -> int:
    """About what the weights will take: the recipe's bits and a half-precision scale a block."""
    bits = 0.0
    for name, shape in model.weights.shapes().items():
        storage = recipe.storage(name, shape)
        scale = 16 / storage.block if storage.quantized else 0
        bits += math.prod(shape) * (storage.bits + scale)
    return int(bits / 8) + sum(map(len, model.files.values()))


def described(quantization: Quantization) -> dict[str, Any]:
    """artifact.json's account of what the recipe became."""
    return {"bits_per_weight": quantization.bits_per_weight} | asdict(quantization)


def _manifest(model: Model, order: Order, written: Written, folder: Path) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        model=model.name,
        origin=model.weights.origin,
        synthetic=model.weights.synthetic,
        vlm=model.vlm,
        image=model.image,
        prompt=model.prompt,
        target=order.target,
        recipe=order.recipe.name,
        layout=order.layout,
        files=digests(folder),
        components=written.components,
        quantization=described(written.quantization),
        details={**written.details, **_calibration(model)},
        tools=_tools(),
        proof=None,
    )


def _calibration(model: Model) -> Mapping[str, Any]:
    return {} if model.hessians is None else {"calibration": dict(model.hessians.origin)}


def _tools() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for module, distribution in TOOLS.items():
        if module in sys.modules:
            try:
                found[distribution] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue  # run from a checkout that is not installed
    return found
