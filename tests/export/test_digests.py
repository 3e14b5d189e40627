"""A file's SHA-256 is remembered as long as the file is the same; a lost memory only costs time."""

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from export import digests
from export.digests import LEAST_BYTES, Digests, cache_file
from export.files import sha256_of

SETTLED = 10**9  # seconds since 1970: long ago


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "pocket-vlm" / "digests.json"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that is large enough to be remembered."""
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(LEAST_BYTES))
    return path


def of(memory: Path, path: Path, **options: Any) -> str:
    """The file's digest in another process, where files are settled at once."""
    return Digests(memory, settled_ns=-(2**62), **options).of([path])[path]


def remembered(memory: Path, path: Path) -> bool:
    return of(memory, path, read=lambda path: "read") != "read"


def touch(path: Path) -> None:
    os.utime(path, (SETTLED, SETTLED))


def rewrite(path: Path) -> None:
    """Change one byte and put the time of the last change back, as a copying tool may."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize("change", [touch, rewrite, replace, lengthen])
def test_a_file_that_changed_is_read_again(
    change: Callable[[Path], None], memory: Path, file: Path
) -> None:
    known = Digests(memory, settled_ns=-(2**62))
    assert known.of([file]) == {file: sha256_of(file)}
    assert remembered(memory, file)
    change(file)
    assert known.of([file]) == {file: sha256_of(file)}
    assert of(memory, file) == sha256_of(file)


def test_a_renamed_folder_is_not_read_again(memory: Path, tmp_path: Path, file: Path) -> None:
    folder = tmp_path / "before"
    folder.mkdir()
    moved = file.rename(folder / "weights")
    of(memory, moved)
    folder.rename(tmp_path / "after")
    assert remembered(memory, tmp_path / "after" / "weights")


def test_a_file_that_has_just_changed_is_not_remembered(memory: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(LEAST_BYTES))
    Digests(memory).of([path])
    assert not memory.exists()


def test_only_files_worth_it_are_kept(memory: Path, file: Path) -> None:
    file.write_bytes(b"small")
    of(memory, file)
    assert not memory.exists()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": lambda memory: memory.write_bytes(memory.read_bytes()[:-5]),
    "another digest": lambda memory: memory.write_bytes(
        memory.read_bytes()[:-10] + b"0" * 7 + memory.read_bytes()[-3:]
    ),
    "no text": lambda memory: memory.write_bytes(bytes(range(256))),
    "empty": lambda memory: memory.write_bytes(b""),
    "a folder": lambda memory: (memory.unlink(), memory.mkdir()),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_memory_is_ignored(case: str, memory: Path, file: Path) -> None:
    of(memory, file)
    DAMAGES[case](memory)
    assert of(memory, file) == sha256_of(file)


def test_a_folder_that_cannot_be_written_to_costs_only_time(tmp_path: Path, file: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    assert of(tmp_path / "cache" / "digests.json", file) == sha256_of(file)


def test_processes_that_write_at_once_leave_a_sound_memory(
    memory: Path, tmp_path: Path, file: Path
) -> None:
    paths = []
    for number in range(8):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(bytes([number]) * LEAST_BYTES)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda path: of(memory, path), paths))
    assert 1 <= len(digests._read(memory)) <= 8
    assert [path.name for path in memory.parent.iterdir()] == [memory.name]
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600


def test_the_memory_keeps_the_newest(memory: Path, file: Path) -> None:
    of(memory, file)
    touch(file)
    of(memory, file, most=1)
    assert digests._read(memory) == {digests._state(file): sha256_of(file)}


def test_tests_do_not_use_the_users_memory() -> None:
    file = cache_file()
    assert file is not None
    assert file.parents[1].name.startswith("pocket-vlm-cache-")


def test_the_memory_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert cache_file() == Path("/some/where/pocket-vlm/digests.json")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/who")
    assert cache_file() == Path("/home/who/.cache/pocket-vlm/digests.json")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_file() is None
