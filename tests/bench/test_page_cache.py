"""Files are in the page cache or not, as asked; where the system does not tell, they are in it."""

import os
from pathlib import Path

import pytest

from bench.jobs.page_cache import drop, resident, warm


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(4_000_000))
    return path


def test_dropped_pages_leave_the_cache_and_read_pages_return(file: Path) -> None:
    if not drop([file]):
        pytest.skip("the file system keeps its pages in memory")
    cached, pages = resident(file)
    assert cached <= 0.01 * pages
    warm([file])
    assert resident(file) == (pages, pages)


def test_dropping_no_files_returns_false() -> None:
    assert not drop([])


def test_an_empty_file_has_no_pages(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert resident(tmp_path / "empty") == (0, 0)
