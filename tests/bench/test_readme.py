"""Pages with results show their committed records."""

import re
from pathlib import Path

import pytest

from bench.cli import main, parser
from bench.record import Record, append, read
from bench.reporting.readme import EMPTY, END, START, block, filled
from bench.reporting.report import report
from export.errors import UserError

ROOT = Path(__file__).parents[2]


PAGE = ROOT / "results" / "README.md"


def test_the_page_of_results_shows_its_records() -> None:
    text = PAGE.read_text(encoding="utf-8")
    (command,) = re.findall(r"<!-- results: (.*) -->", text)
    arguments = parser().parse_args(command.split()[1:])
    assert ROOT / arguments.readme == PAGE
    records, damages = read([ROOT / run for run in arguments.runs])
    assert damages == []
    assert filled(text, block(records)) == text, command


def test_the_committed_report_is_that_of_its_records() -> None:
    records, damages = read([ROOT / "results" / "run.jsonl"])
    assert damages == []
    text = (ROOT / "results" / "REPORT.md").read_text(encoding="utf-8")
    assert re.sub(r"!\[.*\)\n\n", "", text) == report(records)


def test_a_page_may_name_its_own_runs_in_the_marker() -> None:
    own = "<!-- results: bench report a.jsonl b.jsonl --readme docs/x.md -->"
    page = f"# A\n\n{own}\nold\n{END}\n"
    assert filled(page, "new") == f"# A\n\n{own}\n\nnew\n\n{END}\n"


def test_only_the_block_changes() -> None:
    before = f"# A\n\n{START}\nold\n{END}\n\nafter\n"
    assert filled(before, "new") == f"# A\n\n{START}\n\nnew\n\n{END}\n\nafter\n"
    assert filled(filled(before, "new"), "new") == filled(before, "new")


def test_a_readme_without_the_markers_is_a_users_error() -> None:
    with pytest.raises(UserError, match="put these lines into it"):
        filled("# A\n", "new")


def test_without_records_the_block_names_the_command() -> None:
    assert block([]) == EMPTY
    assert "--readme README.md" in EMPTY


def test_the_command_fills_the_block(
    tmp_path: Path, records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    run, readme = tmp_path / "run.jsonl", tmp_path / "README.md"
    for own in records:
        append(run, own)
    readme.write_text(f"# A\n{START}\n{END}\n")
    assert main(["report", str(run), "--readme", str(readme)]) == 0
    text = readme.read_text(encoding="utf-8")
    assert "| onnx int8" in text
    assert "Imaginary CPU 9" in text
    assert capsys.readouterr().out == ""
    readme.write_text("# A\n")
    assert main(["report", str(run), "--readme", str(readme)]) == 2
