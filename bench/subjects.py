"""From what a user names (an artifact's or checkpoint's folder, a model) to what is measured.

NOT aware of runtimes or tasks.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.record import Subject
from export.artifact import MANIFEST, Artifact, load_artifact
from export.checkpoint.registry import WeightsKind, open_model
from export.errors import UserError
from export.model import Model
from export.modeling.vlm import Vlm
from export.prompts import PromptRecipe
from runtimes.prepare.request import Preparer


@dataclass(frozen=True)
class Candidate:
    """A subject, and where to open it again in another process."""

    subject: Subject
    location: str
    weights: WeightsKind | None = None
    """Of a model: "synthetic" for random values instead of its own."""
    has_vision: bool = True
    """False: its model is for text alone."""
    problem: str | None = None
    """Why there is nothing to measure: it could not be exported."""


def load(
    location: str, offline: bool = False, weights: WeightsKind | None = None
) -> Artifact | Model:
    """What is at a location. Raises UserError for anything that cannot be opened.

    A model of the hub is fetched, unless `offline`: then it is taken from the cache alone.
    """
    if (Path(location) / MANIFEST).exists():
        return load_artifact(Path(location))
    return open_model(location, offline=offline, weights=weights)


def within_tiles(loaded: Artifact | Model, most: int | None) -> Artifact | Model:
    """The same, but its images are cut into at most so many tiles; None changes nothing."""
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
    """What is at a location, identified."""
    loaded = load(location, offline, weights)
    has_vision = vlm(loaded).vision is not None
    if isinstance(loaded, Artifact):
        return Candidate(_artifact(loaded), location, has_vision=has_vision)
    return Candidate(checkpoint(loaded), location, weights, has_vision)


def weight_files(loaded: Artifact | Model) -> list[Path]:
    """The files that opening a session reads; none for synthetic weights."""
    if isinstance(loaded, Artifact):
        return [loaded.path / name for name in loaded.manifest.files]
    return sorted(loaded.folder.glob("*.safetensors")) if loaded.folder else []


def vlm(loaded: Artifact | Model) -> Vlm:
    """The numbers of an opened subject."""
    return loaded.manifest.vlm if isinstance(loaded, Artifact) else loaded.vlm


def prompt_of(loaded: Artifact | Model) -> PromptRecipe:
    """How an opened subject's prompts are made."""
    return loaded.manifest.prompt if isinstance(loaded, Artifact) else loaded.prompt


def detokenizer(loaded: Artifact | Model) -> Callable[[Sequence[int]], str]:
    """A function from token ids to text, special tokens left out."""
    of = loaded.manifest if isinstance(loaded, Artifact) else loaded
    return Preparer(of.image, of.prompt, _tokenizer(loaded), of.vlm.image_token_id).text


def _tokenizer(loaded: Artifact | Model) -> bytes:
    if isinstance(loaded, Model):
        found = [data for name, data in loaded.files.items() if name == "tokenizer.json"]
        where = loaded.name
    else:
        names = [name for name in loaded.manifest.files if Path(name).name == "tokenizer.json"]
        found = [(loaded.path / name).read_bytes() for name in names]
        where = str(loaded.path)
    if not found:
        raise UserError(f"{where}: no tokenizer.json, so answers cannot be turned into text")
    return found[0]


def _artifact(artifact: Artifact) -> Subject:
    manifest = artifact.manifest
    return Subject(
        model=manifest.model,
        synthetic=manifest.synthetic,
        target=manifest.target,
        recipe=manifest.recipe,
        layout=manifest.layout,
        sha256=hashlib.sha256((artifact.path / "artifact.json").read_bytes()).hexdigest(),
        disk_bytes=sum(int(file["bytes"]) for file in manifest.files.values()),
        origin=manifest.origin,
        quantization=manifest.quantization,
        proof=manifest.proof,
    )


def checkpoint(model: Model) -> Subject:
    """A model as it is, measured on the reference runtime."""
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
