"""The hub: what is asked of it, how its refusals read, and its cache without a network."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import errors
from local_hub import COMMIT, serving

from export.checkpoint.hub import fetch
from export.errors import UserError

# httpx or, from huggingface_hub 2.0 on, httpx2
httpx: Any = sys.modules[errors.HTTPError.__module__.partition(".")[0]]
REFUSED = httpx.Response(404, request=httpx.Request("GET", "https://huggingface.co"))
REFUSALS: dict[str, tuple[Exception, str]] = {
    "gated": (errors.GatedRepoError("no", response=REFUSED), "is gated; accept its terms"),
    "unknown": (errors.RepositoryNotFoundError("no", response=REFUSED), "is not on the hub"),
    "revision": (errors.RevisionNotFoundError("no", response=REFUSED), "has no revision 'abc'"),
    "not cached": (errors.LocalEntryNotFoundError("no"), "the hub cannot be reached"),
    "no hub id": (errors.HFValidationError("no"), "is not a hub id; expected owner/name"),
    "connection lost": (httpx.ReadError("gone"), "fetching failed (gone); try again"),
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


def test_what_is_cached_is_taken_where_the_hub_does_not_answer() -> None:
    def download(repository: str, *, local_files_only: bool, **options: Any) -> str:
        if not local_files_only:
            raise httpx.ConnectError("refused")
        return f"/cache/snapshots/{COMMIT}"

    assert fetch("a/b", COMMIT, download=download)[1] == COMMIT


CACHE = "import huggingface_hub as h; h.hf_hub_download('o/m', 'config.json', revision={!r})"
FETCH = "from export.checkpoint.hub import fetch; print(fetch('o/m', {!r}, offline={})[1])"
NOWHERE = "http://127.0.0.1:9"
WITHOUT_NETWORK: dict[str, tuple[bool, dict[str, str]]] = {
    "--offline": (True, {"HF_ENDPOINT": NOWHERE, "HF_HUB_OFFLINE": "0"}),
    "HF_HUB_OFFLINE": (False, {"HF_ENDPOINT": NOWHERE, "HF_HUB_OFFLINE": "1"}),
}


def expect_cached_commit(folder: Path, *first_on_path: str) -> None:
    """A file that hf_hub_download cached at a commit is found by `fetch`, in new processes."""
    (folder / "hub").mkdir(parents=True)
    (folder / "hub" / "config.json").write_text("{}")
    path = os.pathsep.join([*first_on_path, *sys.path])
    kept = {**os.environ, "PYTHONPATH": path, "HF_HOME": str(folder / "home")}

    def said(code: str, settings: dict[str, str]) -> str:
        words, both = [sys.executable, "-c", code], {**kept, **settings}
        done = subprocess.run(words, env=both, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    with serving("o/m", folder / "hub", "models") as address:
        said(CACHE.format(COMMIT), {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0"})
    for offline, settings in WITHOUT_NETWORK.values():
        assert said(FETCH.format(COMMIT, offline), settings) == COMMIT


def test_a_cached_commit_is_found_without_a_network(tmp_path: Path) -> None:
    expect_cached_commit(tmp_path)


@pytest.mark.packages
@pytest.mark.parametrize("version", ["1.31.0", "1.33.0", "2.4.0"])
def test_a_cached_commit_is_found_by_every_client_of_the_hub(tmp_path: Path, version: str) -> None:
    target = tmp_path / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target)]
    subprocess.run([*pip, f"huggingface_hub=={version}"], check=True)
    expect_cached_commit(tmp_path, str(target))
