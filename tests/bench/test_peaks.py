"""`bench peaks` fails if a prediction differs from a measurement."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.analysis.predictions import PredictionError, prediction_errors
from bench.cli import main
from bench.machine.memory import PhaseMemory
from bench.record import Record, append


def measured(record: Record, peak_bytes: int, disk_bytes: int) -> Record:
    """The record with another peak and another size on disk."""
    memory = (PhaseMemory("decode", peak_bytes, None, None, None, None),)
    subject = replace(record.case.subject, disk_bytes=disk_bytes)
    case = replace(record.case, subject=subject)
    return replace(record, case=case, outcome=replace(record.outcome, memory=memory))


@pytest.fixture
def exact(records: list[Record]) -> Record:
    """A latency record whose peak and size are the predicted ones."""
    record = next(r for r in records if r.case.subject.recipe == "int4")
    (first,) = prediction_errors([record])
    disk_bytes = (record.case.subject.disk_bytes or 0) + first.disk_bytes_off
    return measured(record, first.predicted_peak_bytes, disk_bytes)


def test_checkpoints_failures_and_gpus_are_not_predicted(records: list[Record]) -> None:
    names = [error.export for error in prediction_errors(records)]
    assert (
        names[::2]
        == names[1::2]
        == [
            "tiny-smolvlm onnx int8, 4 tiles, 44",
            "tiny-smolvlm onnx int4, 4 tiles, 44",
            "smolvlm-500m onnx int4, 4 tiles, 44",
        ]
    )
    on_gpu = [replace(r, case=replace(r.case, device="cuda")) for r in records]
    assert list(prediction_errors(on_gpu)) == []


@pytest.mark.parametrize(
    ("factor", "more_bytes", "code"),
    [(1.0, 0, 0), (1.04, 0, 0), (0.96, 0, 0), (1.06, 0, 1), (0.94, 0, 1), (1.0, 1, 1)],
)
def test_a_peak_may_be_off_by_five_percent_and_a_size_not_at_all(
    exact: Record, tmp_path: Path, factor: float, more_bytes: int, code: int
) -> None:
    memory, subject = exact.outcome.memory, exact.case.subject
    peak = round((memory[0].peak_bytes or 0) * factor)
    path = tmp_path / "run.jsonl"
    append(path, measured(exact, peak, (subject.disk_bytes or 0) + more_bytes))
    assert main(["peaks", str(path)]) == code


def test_the_work_is_that_of_the_most_tiles_of_the_run(exact: Record) -> None:
    # llama.cpp cannot cut into crops, so this artifact was exported with one tile, too.
    case = exact.case
    subject = replace(
        case.subject,
        model="moondream-0.5b",
        target="gguf",
        layout="native",
        synthetic=True,
        origin={},
    )
    options = replace(case.options, max_tiles=1)
    (found,) = prediction_errors(
        [replace(exact, case=replace(case, subject=subject, options=options))]
    )
    assert found.predicted_peak_bytes > 0


@pytest.mark.parametrize(("off", "wrong"), [(20, False), (-20, False), (21, True), (-21, True)])
def test_a_size_may_be_off_by_what_its_target_states(off: int, wrong: bool) -> None:
    assert PredictionError("a layout that a library writes", 100, 100, off, 20.0).wrong == wrong


def test_a_run_without_measured_peaks_is_an_error(
    records: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.jsonl"
    append(path, next(r for r in records if r.case.task == "easy-vqa"))
    assert main(["peaks", str(path)]) == 2
    assert "no measured peak of an artifact" in capsys.readouterr().err
