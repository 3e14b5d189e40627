"""Opens what a user names: an artifact by its folder, otherwise a model."""

from pathlib import Path

from export.artifact import Artifact, load_artifact
from export.checkpoint.registry import WeightsKind, expect_one_reading, open_model
from export.manifest import MANIFEST
from export.model import Model


def is_artifact(named: str | Path) -> bool:
    """Returns whether it is an artifact's folder.

    Raises UserError if the folder also has the name of a model in models.yaml; a Path has no other
    reading.
    """
    if not (Path(named) / MANIFEST).exists():
        return False
    if isinstance(named, str):
        expect_one_reading(named, MANIFEST, "an artifact")
    return True


def open_named(
    named: str | Path, *, weights: WeightsKind | None = None, offline: bool = False
) -> Artifact | Model:
    """Opens an artifact by its folder, or a model as `open_model` does. Raises UserError.

    An artifact ignores `weights` and `offline`.
    """
    if is_artifact(named):
        return load_artifact(Path(named))
    return open_model(named, weights=weights, offline=offline)
