"""Opens what a user names, a folder of an artifact or checkpoint or a model, as a subject."""

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
    """A subject that may be measured, and its location for opening it in another process."""

    subject: Subject
    location: str
    weights: WeightsKind | None = None
    """Weights of a model: "synthetic" for random ones."""
    has_vision: bool = True
    """False for a text-only model."""
    problem: str | None = None
    """Why it cannot be measured, or None."""


def load(
    location: str, offline: bool = False, weights: WeightsKind | None = None
) -> Artifact | Model:
    """The artifact or model at a location. Raises UserError if it cannot be opened.

    A model of the hub is fetched, or with `offline` taken from its local cache.
    """
    if (Path(location) / MANIFEST).exists():
        return load_artifact(Path(location))
    return open_model(location, offline=offline, weights=weights)


def within_tiles(loaded: Artifact | Model, most: int | None) -> Artifact | Model:
    """The subject with images cut into at most `most` tiles; None changes nothing."""
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
    """The candidate at a location. Raises UserError if it cannot be opened."""
    loaded = load(location, offline, weights)
    has_vision = vlm(loaded).vision is not None
    if isinstance(loaded, Artifact):
        return Candidate(_artifact(loaded), location, has_vision=has_vision)
    return Candidate(checkpoint(loaded), location, weights, has_vision)


def weight_files(loaded: Artifact | Model) -> list[Path]:
    """Files that opening a session reads; [] for synthetic weights."""
    if isinstance(loaded, Artifact):
        return [loaded.path / name for name in loaded.manifest.files]
    return sorted(loaded.folder.glob("*.safetensors")) if loaded.folder else []


def vlm(loaded: Artifact | Model) -> Vlm:
    """The description of an opened subject's network."""
    return loaded.manifest.vlm if isinstance(loaded, Artifact) else loaded.vlm


def prompt_of(loaded: Artifact | Model) -> PromptRecipe:
    """The prompt recipe of an opened subject."""
    return loaded.manifest.prompt if isinstance(loaded, Artifact) else loaded.prompt


def detokenizer(loaded: Artifact | Model) -> Callable[[Sequence[int]], str]:
    """A function from token ids to text without special tokens."""
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
        sha256=hashlib.sha256((artifact.path / "artifact.json").read_bytes()).hexdigest(),
        disk_bytes=manifest.total_bytes,
        origin=manifest.origin,
        quantization=manifest.quantization,
        proof=manifest.proof,
        recipe_used=manifest.recipe_used,
    )


def checkpoint(model: Model) -> Subject:
    """The subject of a model as it is, for the reference runtime."""
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
