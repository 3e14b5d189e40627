"""Finds the checkpoint to compare an artifact with: by digests, not by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.subjects import Candidate
from export.checkpoint.registry import PREFIX, WeightsKind, list_models, open_model
from export.errors import UserError
from export.model import Model
from export.opening import is_artifact
from export.origin import difference

REMEDY = "name its checkpoint with --reference"


@dataclass(frozen=True)
class Reference:
    """A checkpoint to compare with: how it is opened, and its origin.

    `location` is a name in models.yaml, a folder or a hub id; `commit` is of the hub, None for
    other checkpoints.
    """

    location: str
    commit: str | None
    origin: Mapping[str, Any]

    def open(self, offline: bool) -> Model:
        """Open it again. Raises UserError if that fails, or if it has changed meanwhile."""
        model = _opened(self.location, self.commit, offline)
        if (differs := difference(self.origin, model.weights.origin)) is not None:
            raise UserError(f"{self.location}: changed since the run was planned: {differs}")
        return model


Open = Callable[[str, str | None, bool], Model]


def _opened(location: str, commit: str | None, offline: bool) -> Model:
    weights: WeightsKind | None = None if commit is None else "hub"
    return open_model(location, weights=weights, revision=commit, offline=offline)


@dataclass
class References:
    """Finds references, and opens each checkpoint once. `asked` is the option --reference.

    `open` replaces the opening of checkpoints in tests: location, commit and offline to Model.
    """

    asked: str | None
    offline: bool = False
    open: Open = _opened
    _found: dict[tuple[str, str | None, bool], Reference] = field(default_factory=dict)

    def of(self, candidate: Candidate) -> Reference | str:
        """Return a candidate's reference, or why there is none.

        Raises UserError if the checkpoint that the user asked for cannot be opened.
        """
        if self.asked is not None:
            if is_artifact(self.asked):
                raise UserError(f"--reference {self.asked}: this is an artifact, not a checkpoint")
            return self._reference(self.asked)
        subject = candidate.subject
        try:
            found = self._candidate(candidate)
        except UserError as error:
            return f"its checkpoint cannot be opened ({error}); {REMEDY}"
        if found is None:
            return f"'{subject.model}' is not in models.yaml; {REMEDY}"
        if (differs := difference(subject.origin, found.origin)) is not None:
            return f"{found.location} is another model ({differs}); {REMEDY}"
        return found

    def _candidate(self, candidate: Candidate) -> Reference | None:
        """Open the checkpoint that it may have been exported from; None: none is known.

        A hub repository is fetched only at the commit that it came from; what only has the
        artifact's name is taken from the hub's cache.
        """
        subject = candidate.subject
        if candidate.checkpoint is not None:
            return self._reference(candidate.checkpoint)
        if "hub" in subject.origin:
            return self._reference(subject.origin["hub"], subject.origin.get("revision"))
        if subject.model in list_models():
            return self._reference(f"{PREFIX}{subject.model}", None, offline=True)
        return None

    def _reference(
        self, location: str, commit: str | None = None, offline: bool = False
    ) -> Reference:
        key = (location, commit, offline or self.offline)
        if key not in self._found:
            self._found[key] = Reference(location, commit, self.open(*key).weights.origin)
        return self._found[key]
