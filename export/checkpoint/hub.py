"""Fetches a checkpoint from the Hugging Face hub at one revision."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from export.errors import UserError
from export.files import short

PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer.model")
"""Files that are fetched: weights, configuration and tokenizer, but neither pickles nor code."""

Download = Callable[..., Any]
Refusal = tuple[str, str]

# In this order: GatedRepoError is a RepositoryNotFoundError.
REFUSALS: tuple[tuple[str, Refusal], ...] = (
    (
        "GatedRepoError",
        ("is gated", "accept its terms on its page, then run `hf auth login`"),
    ),
    ("RepositoryNotFoundError", ("is not on the hub, or is private", "check the id")),
    ("RevisionNotFoundError", ("has no revision '{revision}'", "check --revision")),
    ("HFValidationError", ("is not a hub id", "expected owner/name")),
    ("IncompleteSnapshotError", ("is only partly in the cache", "run once without --offline")),
    (
        "LocalEntryNotFoundError",
        (
            "at {revision} is not in the cache and the hub cannot be reached",
            "check the network (or leave out --offline), or use --weights synthetic",
        ),
    ),
)


def fetch(
    repository: str, revision: str, *, offline: bool = False, download: Download | None = None
) -> tuple[Path, str]:
    """Downloads a repository of the hub at a revision; returns its local folder and its commit.

    With `offline`, it is only looked up in the hub's cache. `download` replaces
    huggingface_hub.snapshot_download in tests. Raises UserError.
    """
    hub = importlib.import_module("huggingface_hub")
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        folder = (download or hub.snapshot_download)(
            repository,
            revision=revision,
            local_files_only=offline,
            allow_patterns=list(PATTERNS),
        )
    except (OSError, errors.HFValidationError, errors.HTTPError) as error:
        raise _refusal(error, errors, repository, revision) from None
    path = Path(folder)
    return path, path.name


def _refusal(error: Exception, errors: Any, repository: str, revision: str) -> UserError:
    for name, (finding, remedy) in REFUSALS:
        if isinstance(error, getattr(errors, name, ())):
            return UserError(f"{repository} {finding.format(revision=revision)}; {remedy}")
    return UserError(f"{repository}: fetching failed ({short(str(error), 200)}); try again")
