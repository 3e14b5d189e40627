"""The commands on consoles and pipes of every kind: other encodings, no reader, a full disk."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import main
from bench.record import Record, append
from export.__main__ import main as export_main
from export.console import CLOSED_PIPE, TELEMETRY

ROOT = Path(__file__).parents[2]
COMMANDS = (
    ("bench", "list"),  # written by rich
    ("bench", "list", "--json"),
    ("bench", "ask", "--help"),  # written by argparse, which exits
    ("export", "no-such-model", "--target", "onnx", "--recipe", "int8"),  # to stderr
)


def run(words: tuple[str, ...], **streams: int) -> subprocess.CompletedProcess[bytes]:
    # argparse ignores errors of a write, so help must stay in Python's buffer.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=ROOT, env=buffered, check=False, **streams)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_whose_reader_has_left_ends_quietly(words: tuple[str, ...]) -> None:
    reader, pipe = os.pipe()
    os.close(reader)
    done = run(words, stdout=pipe, stderr=pipe if words[0] == "export" else subprocess.PIPE)
    os.close(pipe)
    assert (done.returncode, done.stderr or b"") == (CLOSED_PIPE, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
@pytest.mark.parametrize("words", COMMANDS[:2], ids=" ".join)
def test_a_full_disk_under_the_output_is_one_line(words: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = run(words, stdout=full.fileno(), stderr=subprocess.PIPE)
    wanted = b"error: the output cannot be written (No space left on device)\n"
    assert (done.returncode, done.stderr) == (2, wanted)


@pytest.fixture
def report(tmp_path: Path, records: list[Record]) -> list[str]:
    """The command that prints a report of records, whose text has letters beyond ASCII."""
    for record in records:
        append(tmp_path / "run.jsonl", record)
    return ["report", str(tmp_path / "run.jsonl")]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_letters_that_the_console_lacks_are_replaced(
    encoding: str, report: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {}
    for name in (encoding, "utf-8"):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=name))
        assert main(report) == 0
        texts[name] = sys.stdout.buffer.getvalue().decode(name)  # type: ignore[attr-defined]
    whole = texts["utf-8"]
    assert not whole.isascii()
    assert texts[encoding] == whole.encode(encoding, errors="replace").decode(encoding)


def test_a_command_without_any_output_discards_it(
    report: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as Python sets it after `>&-`
    assert main(report) == 0
    sys.stdout.close()


def test_control_characters_of_a_name_do_not_reach_the_console(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "no\nsuch\x1b[31mmodel"
    assert main(["ask", name, "what?"]) == 2
    assert export_main([name, "--target", "onnx", "--recipe", "int8"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 2
    assert "\x1b" not in shown


def test_a_command_lets_onnx_runtime_queue_no_events(tmp_path: Path) -> None:
    program = (
        "from export.console import on_console\n"
        "def command():\n"
        "    import onnxruntime\n"
        "    return 0\n"
        "on_console(command)\n"
    )
    asked = {name: value for name, value in os.environ.items() if name != TELEMETRY}
    caches = {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=asked | caches, check=True)
    assert not list(tmp_path.iterdir())


LONG = "a" * 5000
TOO_LONG = {
    "an artifact": ("bench", "ask", LONG, "why?"),
    "a model": ("bench", "run", LONG),
    "records": ("bench", "run", "tiny-smolvlm", "-o", LONG),
    "rows": ("bench", "run", "tiny-smolvlm", "--task", "realworldqa", "--data", LONG),
    "an output": ("export", "tiny-smolvlm", "--target", "onnx", "--recipe", "int8", "--out", LONG),
}


@pytest.mark.parametrize("words", TOO_LONG.values(), ids=TOO_LONG)
def test_a_name_too_long_for_a_file_is_one_line(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert {"bench": main, "export": export_main}[words[0]](list(words[1:])) == 2
    *progress, said = capsys.readouterr().err.splitlines()
    assert said.startswith(("error: ", "bench: "))
    assert len(said) < 1000
    assert not any(line.startswith(("error", "Traceback")) for line in progress)
    assert not list(tmp_path.iterdir())
