"""Exports that a kill or a limit of the system ends: nothing loads, and the next one clears up."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from export.__main__ import main
from export.artifact import load_artifact, new_folder
from export.checkpoint.registry import data_root
from export.errors import UserError
from tests.export.checkpoints import make
from tests.export.test_main import SLOW

DEAD = 2**22 + 1
"""No process has a number above Linux's largest."""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make(tmp_path / "model")


def arguments(folder: Path) -> list[str]:
    target = ["--target", "onnx", "--recipe", "int8", "--no-verify"]
    return [str(folder), *target, "--out", str(folder.parent / "out")]


def left(checkpoint: Path) -> list[str]:
    return sorted(path.name for path in checkpoint.parent.iterdir() if path != checkpoint)


@contextmanager
def writing(checkpoint: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of an export; it is killed in the end."""
    command = [sys.executable, "-c", SLOW, *arguments(checkpoint)]
    with subprocess.Popen(command, cwd=data_root(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process
        process.kill()


def test_leftovers_of_a_killed_export_do_not_load_and_the_next_export_removes_them(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with writing(checkpoint) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    (partial,) = left(checkpoint)
    assert partial == f".out.partial-{process.pid}"
    with pytest.raises(UserError, match="is not an artifact"):
        load_artifact(checkpoint.parent / partial)
    assert main(arguments(checkpoint)) == 0
    assert left(checkpoint) == ["out"]
    assert load_artifact(checkpoint.parent / "out")


def test_the_folder_of_a_running_export_is_not_removed(checkpoint: Path) -> None:
    with writing(checkpoint) as process:
        partial = f".out.partial-{process.pid}"
        assert main(arguments(checkpoint)) == 0
        assert left(checkpoint) == [partial, "out"]
        assert (checkpoint.parent / partial / "half.raw").exists()


def test_an_artifact_that_a_killed_export_set_aside_is_restored(checkpoint: Path) -> None:
    assert main(arguments(checkpoint)) == 0
    out = checkpoint.parent / "out"
    out.rename(checkpoint.parent / f".out.replaced-{DEAD}")
    with pytest.raises(ZeroDivisionError), new_folder(out, 10):
        raise ZeroDivisionError
    assert left(checkpoint) == ["out"]
    assert load_artifact(out)


def test_folders_of_other_names_are_not_removed(checkpoint: Path) -> None:
    others = [".out.partial-", ".out.partial-x", ".out.other-1", ".outer.partial-1"]
    for name in others:
        (checkpoint.parent / name).mkdir()
    assert main(arguments(checkpoint)) == 0
    assert left(checkpoint) == sorted([*others, "out"])


def test_a_limit_on_the_size_of_files_is_one_line_and_leaves_nothing(checkpoint: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))

    done = in_a_process(checkpoint, limit)
    assert done.returncode == 2
    assert "files there cannot be as large as this needs (about 0 MB in all); choose" in done.stderr
    assert done.stderr.count("\n") == 1
    assert left(checkpoint) == []


def in_a_process(checkpoint: Path, before: Callable[[], None]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "export", *arguments(checkpoint)],
        cwd=data_root(),
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},  # only the export's files are limited
        preexec_fn=before,
        check=False,
        capture_output=True,
        text=True,
    )


def test_a_folder_that_cannot_be_written_is_one_line(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(checkpoint)[:-1], "/proc/nowhere/out"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: /proc/nowhere: cannot be written to (")
    assert shown.count("\n") == 1
