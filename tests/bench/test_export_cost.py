"""`bench export-cost` measures an export in its own process and appends a line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from random_checkpoint import save
from tiny_configs import CONFIGS, PREPROCESSORS

from bench.cli import main
from bench.commands.export_cost import document

ROOT = Path(__file__).parents[2]
ARGUMENTS = ("--target", "onnx", "--recipe", "int4", "--no-verify")


def test_an_export_is_a_line_and_a_row_and_agrees_with_the_system(tmp_path: Path) -> None:
    folder = save(tmp_path / "tiny", CONFIGS["gemma3"], PREPROCESSORS["gemma3"])
    rows = tmp_path / "results" / "exports.jsonl"
    # By a process of its own: what pytest takes itself would count as the export's peak.
    command = [sys.executable, "-m", "bench", "export-cost", str(folder), *ARGUMENTS]
    for _ in range(2):
        variables = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=tmp_path, env=variables, check=True)
    first, _ = (json.loads(line) for line in rows.read_text().splitlines())
    assert (first["model"], first["synthetic"], first["recipe"]) == ("tiny", False, "int4")
    assert first["outside"]["peak_bytes"] == pytest.approx(first["peak_bytes"], rel=0.05)
    assert first["writing_peak_bytes"] <= first["peak_bytes"]
    assert first["seconds"] < first["outside"]["wall_s"]
    assert str(tmp_path) not in rows.read_text()
    table = (rows.parent / "EXPORTS.md").read_text()
    assert len([line for line in table.splitlines() if line.startswith("| tiny ")]) == 2


def test_a_failed_export_adds_no_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "exports.jsonl"
    assert main(["export-cost", "-o", str(rows), "no-such-model", *ARGUMENTS]) == 2
    assert "unknown model 'no-such-model'" in capfd.readouterr().err
    assert not rows.exists()


def test_help_exports_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["export-cost", "-o", str(tmp_path / "exports.jsonl"), "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage: bench export-cost")
    assert not any(tmp_path.iterdir())


def test_options_that_only_print_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export-cost", "-o", str(tmp_path / "exports.jsonl"), "tiny-smolvlm", "--help"]
    assert main(words) == 2
    assert "wrote nothing with these options" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_without_lines_the_table_is_empty() -> None:
    assert "| model" in document([])


def test_a_name_that_is_not_unicode_is_a_question_mark_in_the_table(tmp_path: Path) -> None:
    folder = save(tmp_path / "tiny", CONFIGS["gemma3"], PREPROCESSORS["gemma3"])
    rows = tmp_path / "exports.jsonl"
    command = ["export-cost", "-o", str(rows), str(folder), *ARGUMENTS]
    assert main(command) == 0
    rows.write_text(rows.read_text().replace('"model": "tiny"', r'"model": "\ud800"'))
    assert main(command) == 0
    assert "| ? " in (tmp_path / "EXPORTS.md").read_text()


@pytest.mark.parametrize("line", ["{broken", "[1]", "{}", '{"model": 7, "outside": []}'])
def test_a_file_of_other_lines_is_refused_before_the_export(
    line: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "exports.jsonl"
    rows.write_text(f"{line}\n")
    assert main(["export-cost", "-o", str(rows), "no-such-model", *ARGUMENTS]) == 2
    error = capfd.readouterr().err
    assert error.startswith(f"bench: {rows}:1: ")
    assert error.count("\n") == 1
    assert rows.read_text() == f"{line}\n"
