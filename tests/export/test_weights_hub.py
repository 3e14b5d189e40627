"""The hub: what is asked of it and how its refusals read. Without network, by a fake download."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import errors

from export.checkpoint.hub import fetch
from export.errors import UserError

REFUSED = httpx2.Response(404, request=httpx2.Request("GET", "https://huggingface.co"))
REFUSALS: dict[str, tuple[Exception, str]] = {
    "gated": (errors.GatedRepoError("no", response=REFUSED), "is gated; accept its terms"),
    "unknown": (errors.RepositoryNotFoundError("no", response=REFUSED), "is not on the hub"),
    "revision": (errors.RevisionNotFoundError("no", response=REFUSED), "has no revision 'abc'"),
    "not cached": (errors.LocalEntryNotFoundError("no"), "the hub cannot be reached"),
    "no hub id": (errors.HFValidationError("no"), "is not a hub id; expected owner/name"),
    "connection lost": (httpx2.ReadError("gone"), "fetching failed (gone); try again"),
    "full disk": (OSError(28, "No space left on device"), "No space left on device"),
}


def test_weights_numbers_and_tokenizer_are_fetched_but_no_pickles_and_no_code() -> None:
    asked: dict[str, Any] = {}

    def download(repository: str, **options: Any) -> str:
        asked.update(options, repository=repository)
        return "/cache/models--a--b/snapshots/0123abc"

    assert fetch("a/b", "main", offline=True, download=download) == (
        Path("/cache/models--a--b/snapshots/0123abc"),
        "0123abc",
    )
    assert asked["revision"] == "main"
    assert asked["local_files_only"] is True
    assert not {"*.bin", "*.py", "*"} & set(asked["allow_patterns"])


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_one_line_with_a_remedy(case: str) -> None:
    error, expected = REFUSALS[case]

    def download(repository: str, **options: Any) -> str:
        raise error

    with pytest.raises(UserError, match=r"^a/b") as raised:
        fetch("a/b", "abc", download=download)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_offline_without_a_cached_copy_uses_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import snapshot_download

    def download(repository: str, **options: Any) -> Any:
        return snapshot_download(repository, cache_dir=tmp_path, **options)

    with pytest.raises(UserError, match="--weights synthetic"):
        fetch("HuggingFaceTB/SmolVLM-256M-Instruct", "main", offline=True, download=download)
