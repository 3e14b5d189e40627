"""Exports and runs that are killed, that find the disk full, or that meet in one folder."""

from pathlib import Path

import pytest

from export.artifact import load_artifact, verify_digests
from tests.fuzz import kills, sound
from tests.fuzz.kills import FULL, VICTIMS, filled, held, killed, placed, small_disk, started
from tests.fuzz.verdicts import PREFIX

NEEDED = (sound.MODEL, sound.FAKE, sound.QUESTIONS, sound.RECORDS)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound").resolve()
    for name in NEEDED:
        sound.SOUND[name](folder, folder / name)
    return folder


@pytest.mark.parametrize("name", VICTIMS)
def test_a_kill_leaves_nothing_half_written(name: str, root: Path, tmp_path: Path) -> None:
    found = killed(name, 2, 1, root, tmp_path)
    assert found.problems == ()
    assert found.kills == 2


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_is_one_line_and_what_was_there_stays(
    name: str, root: Path, tmp_path: Path
) -> None:
    words, _ = FULL[name]
    folder = placed(words, root, tmp_path)
    with small_disk(tmp_path / "disk", 4 << 10) as before:
        out = tmp_path / "disk"
        child = started(filled(words, folder, out), folder, before)
        child.join()
        (line,) = (folder / "shown").read_text().splitlines()[-1:]
        assert child.exitcode == 2, line
        assert PREFIX.match(line)
        assert "Traceback" not in (folder / "shown").read_text()
        assert not [name for name in held(out) if "artifact" in name]


def test_a_full_disk_keeps_the_artifact_that_was_there(root: Path, tmp_path: Path) -> None:
    folder = placed(kills.EXPORT, root, tmp_path)
    with small_disk(tmp_path / "disk", 200 << 10) as before:
        words = filled(kills.EXPORT, folder, tmp_path / "disk")
        first = started(words, folder)
        first.join()
        assert first.exitcode == 0, (folder / "shown").read_text()
        old = held(tmp_path / "disk")
        larger = tuple(word.replace("int8", "fp32") for word in words)
        second = started(larger, folder, before)
        second.join()
        assert second.exitcode == 2
        assert held(tmp_path / "disk") == old


def test_two_exports_into_one_folder_leave_a_whole_artifact(root: Path, tmp_path: Path) -> None:
    folders = [placed(kills.EXPORT, root, tmp_path / str(n)) for n in range(2)]
    out = tmp_path / "out"
    for _ in range(3):
        both = [started(filled(kills.EXPORT, folder, out), folder) for folder in folders]
        for child in both:
            child.join()
        shown = [(folder / "shown").read_text() for folder in folders]
        assert {child.exitcode for child in both} <= {0, 2}, shown
        assert any(child.exitcode == 0 for child in both), shown
        assert all(text.count("\n") <= 1 for text in shown), shown
        assert [path.name for path in out.iterdir()] == ["artifact"]
        verify_digests(load_artifact(out / "artifact"))


def test_two_runs_into_one_file_write_whole_lines(root: Path, tmp_path: Path) -> None:
    words = VICTIMS["run"].words.replace(" --resume", "").replace(" --task easy-vqa", "")
    folders = [placed(words, root, tmp_path / str(n)) for n in range(2)]
    out = tmp_path / "out"
    out.mkdir()
    both = [started(filled(words, folder, out), folder) for folder in folders]
    for child in both:
        child.join()
    assert [child.exitcode for child in both] == [0, 0]
    assert (out / "run.jsonl").read_bytes().count(b"\n") == 2
