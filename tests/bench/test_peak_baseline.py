"""The measured half of the gate: a peak beyond the stated bound fails, noise within it does not."""

import json
import platform
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.analysis.peak_baseline import Peaks, differences, load, measured, save, updated
from bench.cli import main, parser
from bench.command_arguments import PEAKS
from bench.commands.check import run
from bench.machine.memory import reset_peak
from bench.record import Record, append, read
from export.__main__ import main as export

ROOT = Path(__file__).parents[2]
MODELS = ["tiny-smolvlm"]


def held(record: Record, **changes: object) -> Record:
    return replace(record, case=replace(record.case, **changes))


def grown(records: list[Record], factor: float) -> list[Record]:
    """The records of int8 with peaks of another size."""
    return [
        replace(r, outcome=replace(r.outcome, memory=tuple(_times(r, factor))))
        if r.case.subject.recipe == "int8"
        else r
        for r in records
    ]


def _times(record: Record, factor: float) -> list[object]:
    return [
        replace(m, peak_bytes=m.peak_bytes and round(m.peak_bytes * factor))
        for m in record.outcome.memory
    ]


def test_a_row_is_the_highest_peak_of_one_request(records: list[Record]) -> None:
    found = {(p.model, p.export, p.runtime): p.peak_bytes for p in measured(records)}
    assert found == {
        ("tiny-smolvlm", "onnx int8", "onnxruntime"): 180_000_000,
        ("tiny-smolvlm", "onnx int4", "onnxruntime"): 160_000_000,
        ("smolvlm-500m", "onnx int4", "onnxruntime"): 900_000_000,
    }
    assert {p.request for p in measured(records)} == {"an image of 640 × 480 pixels + 4 tokens"}


def test_threads_do_not_split_a_row_and_the_higher_peak_counts(records: list[Record]) -> None:
    more = [held(r, threads=8) for r in grown(records, 1.01)]
    (peak,) = (p for p in measured([*more, *records]) if p.export == "onnx int8")
    assert peak.peak_bytes == 181_800_000


@pytest.mark.parametrize(
    "changes", [{"profile": "phone-4gb"}, {"device": "cuda"}, {"runtime": "onnx_loop"}]
)
def test_jobs_with_a_profile_and_peers_do_not_count(
    records: list[Record], changes: dict[str, str]
) -> None:
    assert measured([held(r, **changes) for r in records]) == []


@pytest.mark.parametrize(
    ("factor", "verdicts"),
    [
        (1.0, []),
        (1.04, []),
        (0.96, []),
        (1.06, [("grew", True)]),
        (0.9, [("shrank", False)]),
    ],
)
def test_peaks_beyond_the_tolerance_are_reported(
    records: list[Record], factor: float, verdicts: list[tuple[str, bool]]
) -> None:
    accepted = Peaks(0.05, tuple(measured(records)))
    found = differences(accepted, measured(grown(records, factor)))
    assert [(d.verdict, d.fails) for d in found] == verdicts


def test_unaccepted_peaks_fail_and_unmeasured_ones_do_not(
    records: list[Record],
) -> None:
    first, *rest = measured(records)
    found = differences(Peaks(0.05, tuple(rest)), [first])
    assert [(d.verdict, d.fails) for d in found] == [("new", True)]
    assert differences(Peaks(0.05, (first, *rest)), [first]) == []


def test_accepting_a_run_keeps_the_tolerance_and_unmeasured_rows(
    records: list[Record],
) -> None:
    first, second, *_ = measured(records)
    larger = replace(second, peak_bytes=second.peak_bytes * 2)
    assert updated(Peaks(0.02, (first, second)), [larger]) == Peaks(0.02, (first, larger))


def test_accepted_peaks_are_read_as_they_were_written(
    tmp_path: Path, records: list[Record]
) -> None:
    peaks = Peaks(0.05, tuple(measured(records)))
    save(tmp_path / "peaks.json", peaks)
    assert load(tmp_path / "peaks.json") == peaks
    assert json.loads((tmp_path / "peaks.json").read_text())["tolerance"] == 0.05


def test_a_runs_growth_fails_until_it_is_accepted(
    tmp_path: Path, records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    def check(name: str, *flags: str) -> int:
        files = ["--baseline", str(tmp_path / "base.json"), "--peaks", str(tmp_path / "peaks.json")]
        arguments = parser().parse_args(["check", str(tmp_path / name), *files, *flags])
        return run(arguments, models=MODELS)

    for name, factor in (("old.jsonl", 1.0), ("new.jsonl", 1.5)):
        for record in grown(records, factor):
            append(tmp_path / name, record)
    assert check("old.jsonl", "--update") == 0
    assert check("old.jsonl") == 0
    capsys.readouterr()
    assert check("new.jsonl") == 1
    told = capsys.readouterr().out
    assert "| tiny-smolvlm onnx int8 | measured peak, onnxruntime, an image of" in told
    assert "| 180,000,000 | 270,000,000 | +50.0 % |" in told
    assert check("new.jsonl", "--update") == 0
    assert check("new.jsonl") == 0


@pytest.mark.parametrize("content", ["", "{broken\n"])
def test_a_run_without_a_peak_is_a_users_error(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(content)
    assert main(["check", str(path)]) == 2
    assert "no measured peak of memory" in capsys.readouterr().err


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or not reset_peak(),
    reason="the accepted peaks are of Linux on x86-64, where a peak can be reset",
)
@pytest.mark.parametrize(("target", "runtime"), [("onnx", "onnxruntime"), ("gguf", "llama_cpp")])
def test_the_bundled_models_peak_stays_within_its_bound(
    tmp_path: Path, target: str, runtime: str
) -> None:
    artifact, run = str(tmp_path / "int4"), tmp_path / "run.jsonl"
    words = ["tiny-smolvlm", "--target", target, "--recipe", "int4", "--no-verify"]
    assert export(["--out", artifact, *words]) == 0
    flags = ["--task", "latency", "--runtime", runtime, "--no-ceilings", "-o", str(run)]
    assert main(["run", artifact, *flags, "--rounds", "1", "--repeats", "1"]) == 0
    now = measured(read([run])[0])
    assert len(now) == 1
    assert differences(load(ROOT / PEAKS), now) == []
