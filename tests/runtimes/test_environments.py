"""Environments made by venv and pip from a lock; the package index is a folder."""

import multiprocessing
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from export.errors import UserError
from runtimes.environments import Environment, default_cache, make, python_of

WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
ABOUT = "Metadata-Version: 2.1\nName: tiny-peer\nVersion: {}\n"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two versions of the package tiny-peer."""
    folder = tmp_path_factory.mktemp("index")
    for version in ("1.0", "2.0"):
        about = f"tiny_peer-{version}.dist-info"
        with zipfile.ZipFile(folder / f"tiny_peer-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("tiny_peer.py", f"print({version!r})\n")
            wheel.writestr(f"{about}/WHEEL", WHEEL)
            wheel.writestr(f"{about}/METADATA", ABOUT.format(version))
            wheel.writestr(f"{about}/RECORD", "")
    return folder


def environment(index: Path, version: str = "1.0") -> Environment:
    return Environment("tiny", f"--no-index\n--find-links {index}\ntiny-peer=={version}  # why\n")


def test_an_environment_has_the_versions_of_its_lock_and_is_made_once(
    index: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    both = [environment(index, version) for version in ("1.0", "2.0")]
    assert [python_of(one, tmp_path) for one in both] == [None, None]
    made = [make(one, cache=tmp_path, notify=said.append) for one in both]
    for python, version in zip(made, ("1.0", "2.0"), strict=True):
        done = subprocess.run(
            [python, "-m", "tiny_peer"], capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{version}\n"
    assert [make(one, cache=tmp_path, notify=said.append) for one in both] == made
    assert [python_of(one, tmp_path) for one in both] == made
    assert len(said) == 2
    assert both[0].version("Tiny-Peer") == "1.0"
    assert both[0].version("other") is None


def test_a_digest_changes_with_all_that_an_environment_is_made_from(index: Path) -> None:
    one = environment(index)
    others = (
        environment(index, "2.0"),
        replace(one, resolve=True),
        replace(one, finished_with="programs"),
    )
    assert len({one.digest, *(other.digest for other in others)}) == 4


def test_a_failure_is_one_line_and_leaves_nothing(index: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tiny: pip could not install.*tiny-peer==3.0.*make peers"):
        make(environment(index, "3.0"), cache=tmp_path)

    def fail(folder: Path) -> None:
        raise UserError(f"{folder.name[:4]}: no compiler")

    with pytest.raises(UserError, match="tiny: no compiler"):
        make(replace(environment(index), finish=fail), cache=tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def _make(index: Path, cache: Path, said: "multiprocessing.Queue[str]") -> None:
    make(environment(index), cache=cache, notify=said.put)
    said.put("done")


def test_of_two_processes_one_makes_what_a_killed_third_began(index: Path, tmp_path: Path) -> None:
    place = environment(index).folder(tmp_path)
    beside = place.with_name(f"{place.name}.new")
    (beside / "bin").mkdir(parents=True)
    (beside / "bin" / "python").touch()
    assert python_of(environment(index), tmp_path) is None
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    both = [context.Process(target=_make, args=(index, tmp_path, said)) for _ in range(2)]
    for process in both:
        process.start()
    words = [said.get(timeout=120) for _ in range(3)]
    for process in both:
        process.join()
    assert sorted(word.split()[0] for word in words) == ["done", "done", "making"]
    assert not beside.exists()


def test_a_folder_that_cannot_be_written_is_an_error(index: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written .*XDG_CACHE_HOME"):
        make(environment(index), cache=tmp_path / "file" / "below")


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "pocket-vlm" / "environments"


def test_without_a_cache_folder_it_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    with pytest.raises(UserError, match="XDG_CACHE_HOME"):
        default_cache()
