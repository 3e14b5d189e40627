"""Fetches a checkpoint from the Hugging Face hub at one revision."""

import importlib
from collections.abc import Callable
from functools import partial
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
            "check the network, leave --offline and HF_HUB_OFFLINE out, or use --weights synthetic",
        ),
    ),
)


def fetch(
    repository: str, revision: str, *, offline: bool = False, download: Download | None = None
) -> tuple[Path, str]:
    """Downloads a repository of the hub at a revision; returns its local folder and its commit.

    With `offline` or HF_HUB_OFFLINE, or without a network, it is looked up in the hub's cache.
    `download` replaces huggingface_hub.snapshot_download in tests. Raises UserError.
    """
    hub = importlib.import_module("huggingface_hub")
    errors = importlib.import_module("huggingface_hub.errors")
    settings = importlib.import_module("huggingface_hub.constants")
    get = partial(
        download or hub.snapshot_download,
        repository,
        revision=revision,
        allow_patterns=list(PATTERNS),
    )
    try:
        folder = get(local_files_only=offline or settings.HF_HUB_OFFLINE)
    except (OSError, errors.HFValidationError, errors.HTTPError) as error:
        folder = _cached(get, error, errors)
        if folder is None:
            raise _refusal(error, errors, repository, revision) from None
    path = Path(folder)
    return path, path.name


def _cached(get: Download, error: Exception, errors: Any) -> Any:
    """Looks a revision up in the cache if the hub did not answer; None: it is not there.

    huggingface_hub 1.26 to 2.1 ask the hub which files a commit has even if they are cached, unless
    snapshot_download itself cached them.
    """
    if isinstance(error, errors.HfHubHTTPError) or not isinstance(error, errors.HTTPError):
        return None
    try:
        return get(local_files_only=True)
    except (OSError, errors.HTTPError):
        return None


def _refusal(error: Exception, errors: Any, repository: str, revision: str) -> UserError:
    for name, (finding, remedy) in REFUSALS:
        if isinstance(error, getattr(errors, name, ())):
            return UserError(f"{repository} {finding.format(revision=revision)}; {remedy}")
    return UserError(f"{repository}: fetching failed ({short(str(error), 200)}); try again")
