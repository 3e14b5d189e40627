"""`bench run` from outside: it can be broken off at any moment, continued, and runs on a full disk.

Each test is a process of its own, as a user's is.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main, parser
from bench.commands.run import export_request
from bench.record import Record, read
from tests.bench.made import MakeArtifact

ROOT = Path(__file__).parents[2]
FLAGS = ["--runtime", "fake", "--task", "latency", "--repeats", "1", "--no-ceilings"]


def start(*arguments: str, flags: Sequence[str] = FLAGS) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench", "run", *arguments, *flags]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=variables, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], Any], limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def children(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def records(path: Path) -> list[Record]:
    found, damages = read([path])
    assert damages == []
    return found


@pytest.fixture
def slow(make_artifact: MakeArtifact) -> str:
    """Takes long enough to be broken off, in its second round too."""
    return str(make_artifact("slow", {"prefill": {"delay_s": 0.5}}))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux only")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_is_continued(tmp_path: Path, slow: str, number: int) -> None:
    run = tmp_path / "run.jsonl"
    process = start(slow, "--rounds", "3", "-o", str(run))
    found: list[str] = []

    def second_job() -> bool:
        found[:] = children(process.pid)
        return run.exists() and run.read_text().count("\n") == 1 and len(found) == 1

    wait_for(second_job)
    (worker,) = found
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert process.returncode == (130 if number == signal.SIGINT else -9)
    assert "Traceback" not in told
    if number == signal.SIGINT:
        assert f"--resume -o {run}" in told
    wait_for(lambda: not Path(f"/proc/{worker}").exists())
    assert [record.case.round for record in records(run)] == [0]

    assert main(["run", slow, "--rounds", "3", "-o", str(run), "--resume", *FLAGS]) == 0
    assert [record.case.round for record in records(run)] == [0, 1, 2]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux only")
def test_a_killed_evaluation_resumes_and_scores_no_item_twice(
    tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    run = tmp_path / "run.jsonl"
    folder = str(make_artifact(script={"prefill": {"delay_s": 0.05}}))
    ask = ["--runtime", "fake", "--task", "easy-vqa", "--limit", "40", "-o", str(run)]
    process = start(folder, flags=ask)
    wait_for(lambda: any(f.read_bytes().count(b"\n") > 2 for f in tmp_path.glob("*.items")))
    process.kill()
    process.communicate(timeout=20)
    (journal,) = tmp_path.glob("*.items")
    answered = [json.loads(line)["id"] for line in journal.read_bytes().splitlines()[:-1]]
    assert records(run) == []

    assert main(["run", folder, *ask, "--resume"]) == 0
    (record,) = records(run)
    ids = [item.id for item in record.outcome.items]
    assert len(ids) == len(set(ids)) == 40
    assert ids[: len(answered)] == answered
    assert record.outcome.evaluation is not None
    assert record.outcome.evaluation.asked <= 40 - len(answered)
    assert list(tmp_path.glob("*.items")) == []


def test_a_full_disk_keeps_what_was_measured(make_artifact: MakeArtifact) -> None:
    process = start(str(make_artifact()), "--rounds", "1", "-o", "/dev/full")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "/dev/full: cannot be written (No space left on device)" in told
    assert "Traceback" not in told


def test_a_device_profile_is_recorded_with_its_verdict(
    tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    run = tmp_path / "run.jsonl"
    flags = ["--rounds", "1", "--device", "phone-4gb", "-o", str(run), *FLAGS]
    assert main(["run", str(make_artifact()), *flags]) == 0
    (record,) = records(run)
    assert (record.case.profile, record.outcome.fits) == ("phone-4gb", True)


MISTAKES = [
    (["x", "--recipe", "int3"], "unknown recipe 'int3'; did you mean"),
    (["x", "--target", "onx"], "did you mean onnx"),
    (["x", "--device", "phone-4"], "did you mean phone-4gb"),
    (["tiny-smolvm"], "did you mean tiny-smolvlm"),
    (["x", "--threads", "1", "--device", "phone-4gb"], "--threads and --device contradict"),
    (["x", "--resume"], "--resume continues a file; name it with -o"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_users_error_of_run_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["run", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


WISHES = [
    ([], ([], True)),
    (["--recipe", "int8"], (["onnx", "gguf"], False)),
    (["--target", "gguf"], (["gguf"], False)),
    (["--runtime", "llama_cpp"], (["gguf"], False)),
    (["--runtime", "reference"], ([], True)),
    (["--runtime", "reference", "--runtime", "onnxruntime"], (["onnx"], True)),
]


@pytest.mark.parametrize(("flags", "expected"), WISHES)
def test_a_models_name_stands_for_the_requested_artifacts(
    flags: list[str], expected: tuple[list[str], bool]
) -> None:
    found = export_request(parser().parse_args(["run", "tiny-smolvlm", *flags]))
    assert (list(found.targets), found.itself) == expected


def test_records_are_whole_lines(tmp_path: Path, make_artifact: MakeArtifact) -> None:
    run = tmp_path / "run.jsonl"
    run.write_text('{"cut off')
    assert main(["run", str(make_artifact()), "--rounds", "1", "-o", str(run), *FLAGS]) == 0
    first, second = run.read_text().splitlines()
    assert first == '{"cut off'
    assert json.loads(second)["status"] == "ok"


def test_a_damaged_artifact_fails_its_job_and_the_run_goes_on(
    tmp_path: Path, make_artifact: MakeArtifact
) -> None:
    sound, damaged = make_artifact("sound"), make_artifact("damaged", {"answers": {"a": [1, 2]}})
    (script,) = damaged.glob("fake*.json")
    script.write_bytes(script.read_bytes().replace(b"2", b"3"))
    run = tmp_path / "run.jsonl"
    named = [str(damaged), str(sound), "--rounds", "1"]
    assert main(["run", *named, "-o", str(run), *FLAGS]) == 1
    first, second = records(run)
    assert (first.status, second.status) == ("failed", "ok")
    assert f"{script} changed since the export: its SHA-256 is " in str(first.reason)
