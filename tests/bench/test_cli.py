"""The command line: outputs and exit codes that other programs and people rely on."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli import COMMANDS, main
from bench.commands.list_ import listing
from bench.record import Record, append, read
from export.targets import TARGETS
from runtimes import RUNTIMES
from runtimes.devices import usable_cpus
from tests.bench.made import MakeArtifact
from tests.export.checkpoints import make, save_json

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "onnx", "onnxruntime", "llama_cpp", "matplotlib", "scipy")


HELP = [["--help"], *([command, "--help"] for command in COMMANDS)]


@pytest.mark.parametrize("arguments", [*HELP, ["list"], ["list", "--json"]])
def test_help_and_list_import_no_heavy_library(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from bench.cli import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        f"sys.stderr.write(' '.join(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout


def test_list_prints_all_tables_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["models", "recipes", "targets", "runtimes", "tasks", "profiles"]
    assert found["targets"]["onnx"]["layouts"] == list(TARGETS["onnx"].layouts)
    assert found["profiles"]["phone-4gb"]["memory_bytes"] == 2_000_000_000
    assert "int4" in found["recipes"]
    assert "fake" not in found["runtimes"]


def test_list_has_the_reason_why_a_gpu_is_unavailable() -> None:
    told = listing()["profiles"]["cuda"]["unavailable"]
    able = [runtime for runtime in RUNTIMES.values() if "cuda" in runtime.devices]
    reasons = [runtime.unavailable(device="cuda") for runtime in able]
    if None in reasons:
        assert told is None
    else:
        assert all(str(reason) in str(told) for reason in reasons)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "x", "--runtime", "onxruntime"], "did you mean onnxruntime"),
        (["run", "x", "--task", "latncy"], "did you mean latency"),
        (["report", "no-such-run.jsonl"], "No such file"),
        (["run", "no-such-model"], "no-such-model"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_run_appends_records_and_report_reads_them(
    tmp_path: Path, make_artifact: MakeArtifact, capsys: pytest.CaptureFixture[str]
) -> None:
    good = str(make_artifact("good"))
    bad = str(make_artifact("bad", {"token": {"signal": 6}}, recipe="int8"))
    run = str(tmp_path / "run.jsonl")
    flags = ["--runtime", "fake", "--task", "latency", "--task", "fidelity", "--rounds", "2"]
    assert main(["run", good, bad, *flags, "--repeats", "1", "-o", run]) == 1
    told = capsys.readouterr().err
    assert "4 to measure, 2 skipped" in told
    assert "2 measured, 2 failed" in told
    records, damages = read([Path(run)])
    assert damages == []
    statuses = [(r.case.subject.recipe, r.case.round, r.status) for r in records]
    assert statuses == [
        ("int4", 0, "skipped"),
        ("int8", 0, "skipped"),
        *[
            (recipe, n, end)
            for n in range(2)
            for recipe, end in (("int4", "ok"), ("int8", "failed"))
        ],
    ]
    report = tmp_path / "out" / "REPORT.md"
    assert main(["report", run, "-o", str(report)]) == 0
    text = report.read_text(encoding="utf-8")
    assert "killed by SIGABRT" in text
    for figure in ("decode", "first-token", "memory"):
        assert f"report-fake-model-{figure}.svg" in text
        assert (report.parent / f"report-fake-model-{figure}.svg").exists()


def test_a_failed_export_fails_the_run_although_the_rest_is_measured(
    tmp_path: Path, make_artifact: MakeArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, run = make_artifact("good"), str(tmp_path / "run.jsonl")
    monkeypatch.chdir(tmp_path)
    Path("build").write_text("in the way of exports")
    words = ["run", str(good), "tiny-smolvlm", "--recipe", "int4", "--target", "onnx"]
    flags = ["--runtime", "fake", "--task", "latency", "--rounds", "1", "--no-ceilings"]
    assert main([*words, *flags, "-o", run]) == 1
    records, _ = read([Path(run)])
    assert [record.status for record in records] == ["skipped", "ok"]
    assert "could not be exported" in str(records[0].reason)


def test_a_plan_without_jobs_is_a_users_error(
    tmp_path: Path, make_artifact: MakeArtifact, capsys: pytest.CaptureFixture[str]
) -> None:
    random = str(make_artifact(synthetic=True))
    run = tmp_path / "run.jsonl"
    arguments = ["run", random, "--runtime", "fake", "--task", "easy-vqa", "-o", str(run)]
    assert main(arguments) == 2
    assert "random weights" in capsys.readouterr().err
    assert not run.exists()


def test_report_prints_damaged_lines(
    tmp_path: Path, records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run.jsonl"
    append(run, records[0])
    run.write_text(run.read_text() + "{broken\n")
    assert main(["report", str(run)]) == 0
    found = capsys.readouterr()
    assert "run.jsonl:2: not a record" in found.err
    assert found.out.startswith("# PocketVLM benchmark")


def test_ask_ends_with_the_promised_line(
    tmp_path: Path, make_artifact: MakeArtifact, capfd: pytest.CaptureFixture[str]
) -> None:
    script = {"answers": {"what?": [3, 5, 0]}, "load": {"says": "native noise\n"}}
    Image.new("RGB", (4, 4)).save(tmp_path / "image.png")
    words = [str(make_artifact(script=script)), str(tmp_path / "image.png")]
    assert main(["ask", *words, "what?", "--runtime", "fake", "--json"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert "red circle" in lines
    last = json.loads(lines[-1])
    assert list(last) == [
        *("answer", "token_ids", "load_s", "image_s", "prefill_s", "first_token_s"),
        *("decode_tokens_per_s", "peak_bytes"),
    ]
    assert (last["answer"], last["token_ids"]) == ("red circle", [3, 5, 0])


def test_ask_prints_the_timings_for_people(
    tmp_path: Path, make_artifact: MakeArtifact, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "image.png")
    words = [str(make_artifact()), str(tmp_path / "image.png")]
    assert main(["ask", *words, "what?", "--runtime", "fake", "--max-tokens", "2"]) == 0
    found = capfd.readouterr()
    assert found.out == "yes no\n"
    assert "first token" in found.err


def test_ask_refuses_a_runtime_that_cannot_open_it(
    tmp_path: Path, make_artifact: MakeArtifact, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "image.png")
    words = [str(make_artifact()), str(tmp_path / "image.png")]
    assert main(["ask", *words, "what?", "--runtime", "llama_cpp"]) == 2
    assert "does not open onnx; choose onnxruntime" in capsys.readouterr().err


def test_ask_says_which_grey_values_and_threads_it_does_not_use(
    tmp_path: Path, make_artifact: MakeArtifact, capfd: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "grey.png"
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(image)
    words = ["ask", str(make_artifact()), str(image), "what?", "--runtime", "fake"]
    assert main([*words, "--threads", "9999"]) == 0
    threads, grey, timings, end = capfd.readouterr().err.split("\n")
    assert threads.startswith("note: --threads 9999: ")
    assert grey.startswith(f"note: {image}: grey values from 0 to 65535 are read as 0 (black)")
    assert (timings.startswith("load"), end) == (True, "")


def test_ask_says_what_a_checkpoint_holds_and_it_does_not_use(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path / "model")
    save_json(folder / "generation_config.json", {"repetition_penalty": 1.05})
    Image.new("RGB", (4, 4)).save(tmp_path / "image.png")
    words = ["ask", str(folder), str(tmp_path / "image.png"), "what?", "--max-tokens", "1"]
    assert main(words) == 0
    assert "note: answers are decoded without repetition_penalty 1.05" in capfd.readouterr().err


def test_run_uses_and_records_at_most_the_usable_cpus(
    tmp_path: Path, make_artifact: MakeArtifact, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run.jsonl"
    words = ["run", str(make_artifact()), "--runtime", "fake", "--task", "latency", "--rounds", "1"]
    assert main([*words, "--no-ceilings", "--threads", "9999", "-o", str(run)]) == 0
    (record,), _ = read([run])
    assert record.case.threads == usable_cpus()
    assert "note: --threads 9999: " in capfd.readouterr().err


@pytest.mark.skipif(RUNTIMES["llama_cpp"].unavailable("native", "cuda") is None, reason="has a GPU")
def test_without_a_gpu_nothing_is_exported_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = ["gpu", "tiny-smolvlm", "--folder", str(tmp_path / "made"), "-o", str(tmp_path / "x")]
    assert main(order) == 2
    assert capsys.readouterr().err.startswith("bench: --device cuda: ")
    assert not any(tmp_path.iterdir())
