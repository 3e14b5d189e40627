"""Opens what a user names for a measurement: an artifact, a checkpoint, or a model by its name."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from bench.record import Subject
from export.artifact import Artifact, verify_digests
from export.checkpoint.registry import WeightsKind
from export.errors import UserError
from export.manifest import MANIFEST
from export.model import Model
from export.modeling.vlm import Vlm
from export.opening import open_named
from export.origin import difference
from export.prompts import PromptRecipe
from runtimes.prepare.request import Preparer


@dataclass(frozen=True)
class Candidate:
    """An artifact or checkpoint that a run may measure.

    `location`, a folder or a model's name, is what the job's own process opens. `problem` is the
    reason why it cannot be measured; None: it can.
    """

    subject: Subject
    location: str
    weights: WeightsKind | None = None
    """For a model: "synthetic" for random weights, "hub" or None for trained ones."""
    has_vision: bool = True
    """Whether its model takes images."""
    problem: str | None = None
    checkpoint: str | None = None
    """Name or folder of the model that it was exported from, if this run names it; else None."""


def load(
    location: str, offline: bool = False, weights: WeightsKind | None = None
) -> Artifact | Model:
    """Open the artifact in a folder, or a model by its name or its checkpoint's folder.

    A model of the Hugging Face hub is downloaded, or with `offline` taken from the local cache.
    Artifacts ignore `offline` and `weights`. Raises UserError if it cannot be opened.
    """
    return open_named(location, offline=offline, weights=weights)


@overload
def within_tiles(loaded: Model, most: int | None) -> Model: ...
@overload
def within_tiles(loaded: Artifact | Model, most: int | None) -> Artifact | Model: ...
def within_tiles(loaded: Artifact | Model, most: int | None) -> Artifact | Model:
    """Return it with images cut into at most `most` tiles; unchanged if `most` is None.

    Text-only models are returned unchanged too.
    """
    recipe = loaded.manifest.image if isinstance(loaded, Artifact) else loaded.image
    if most is None or recipe is None:
        return loaded
    image = recipe.within(most)
    if isinstance(loaded, Artifact):
        return replace(loaded, manifest=replace(loaded.manifest, image=image))
    return replace(loaded, image=image)


def candidate(
    location: str, offline: bool = False, weights: WeightsKind | None = None
) -> Candidate:
    """Open what is at a location (as `load` does) and describe it as a candidate for a run.

    Raises UserError if it cannot be opened.
    """
    loaded = load(location, offline, weights)
    has_vision = vlm(loaded).vision is not None
    if isinstance(loaded, Artifact):
        return Candidate(subject_of(loaded), location, has_vision=has_vision)
    return Candidate(subject_of(loaded), location, weights, has_vision)


def subject_of(loaded: Artifact | Model) -> Subject:
    """Describe an artifact or a checkpoint, as records do."""
    return _artifact(loaded) if isinstance(loaded, Artifact) else checkpoint(loaded)


def expect_planned(loaded: Artifact | Model, planned: Subject) -> None:
    """Raise UserError unless it is what was planned, and an artifact's files are as exported.

    A record names the digests that were read when the run was planned.
    """
    if isinstance(loaded, Artifact):
        verify_digests(loaded)
        same = _artifact(loaded).sha256 == planned.sha256
        differs = None if same else f"{MANIFEST} has another SHA-256"
    else:
        differs = difference(planned.origin, loaded.weights.origin)
    if differs is not None:
        raise UserError(f"{planned.model}: changed since the run was planned: {differs}; run again")


def weight_files(loaded: Artifact | Model) -> list[Path]:
    """Return the files that a runtime reads to load it.

    All files of an artifact, or the safetensors files of a checkpoint; [] for random weights.
    """
    if isinstance(loaded, Artifact):
        return [loaded.path / name for name in loaded.manifest.files]
    return sorted(loaded.folder.glob("*.safetensors")) if loaded.folder else []


def vlm(loaded: Artifact | Model) -> Vlm:
    """Return the description of the network: its layers and their sizes."""
    return loaded.manifest.vlm if isinstance(loaded, Artifact) else loaded.vlm


def prompt_of(loaded: Artifact | Model) -> PromptRecipe:
    """Return how the model's prompts are built from a question and images."""
    return loaded.manifest.prompt if isinstance(loaded, Artifact) else loaded.prompt


def detokenizer(loaded: Artifact | Model) -> Callable[[Sequence[int]], str]:
    """Return a function that turns token ids into text, without special tokens.

    Raises UserError if there is no tokenizer.json.
    """
    of = loaded.manifest if isinstance(loaded, Artifact) else loaded
    return Preparer(of.image, of.prompt, _tokenizer(loaded), of.vlm.image_token_id).text


def _tokenizer(loaded: Artifact | Model) -> bytes:
    if isinstance(loaded, Model):
        files = [data for name, data in loaded.files.items() if name == "tokenizer.json"]
        where = loaded.name
    else:
        names = [name for name in loaded.manifest.files if Path(name).name == "tokenizer.json"]
        files = [(loaded.path / name).read_bytes() for name in names]
        where = str(loaded.path)
    if not files:
        raise UserError(f"{where}: there is no tokenizer.json, so answers cannot be decoded")
    return files[0]


def _artifact(artifact: Artifact) -> Subject:
    manifest = artifact.manifest
    return Subject(
        model=manifest.model,
        synthetic=manifest.synthetic,
        target=manifest.target,
        recipe=manifest.recipe,
        layout=manifest.layout,
        sha256=hashlib.sha256((artifact.path / MANIFEST).read_bytes()).hexdigest(),
        disk_bytes=manifest.total_bytes,
        origin=manifest.origin,
        quantization=manifest.quantization,
        proof=manifest.proof,
        recipe_used=manifest.recipe_used,
    )


def checkpoint(model: Model) -> Subject:
    """Describe a checkpoint that is measured without an export, in the reference runtime.

    `disk_bytes` is the size of its safetensors files; None for random weights.
    """
    files = weight_files(model)
    return Subject(
        model=model.name,
        synthetic=model.weights.synthetic,
        target=None,
        recipe=None,
        layout=None,
        sha256=None,
        disk_bytes=sum(file.stat().st_size for file in files) if files else None,
        origin=json.loads(json.dumps(model.weights.origin)),
        quantization=None,
        proof=None,
    )
