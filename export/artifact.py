"""An artifact: a folder of a target's files and artifact.json, which says what they are.

Written to a temporary sibling and renamed at the end, so an interrupted export leaves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.families.spec import Prompt, Tiles, Vlm
from export.targets import Written

SCHEMA = 1


@dataclass(frozen=True)
class Manifest:
    """What artifact.json holds (JSON keys are the field names)."""

    schema: int
    model: str
    """Name in models.yaml, or the folder's name for a local checkpoint."""
    origin: Mapping[str, Any]
    """Weights.origin: hub id and revision, or files' digests, or the seed of synthetic weights."""
    synthetic: bool
    vlm: Vlm
    image: Tiles
    prompt: Prompt
    target: str
    recipe: str
    layout: str
    files: Mapping[str, Mapping[str, Any]]
    """relative path -> {"bytes": int, "sha256": str}; artifact.json itself is not listed."""
    components: Mapping[str, tuple[str, ...]]
    quantization: Mapping[str, Any]
    details: Mapping[str, Any]
    tools: Mapping[str, str]
    proof: Mapping[str, Any] | None


@dataclass(frozen=True)
class Artifact:
    """An artifact on disk whose manifest was read and whose files are there."""

    path: Path
    manifest: Manifest
