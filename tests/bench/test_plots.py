"""Figures are drawn for rows with data; equal records give equal bytes."""

from dataclasses import replace
from pathlib import Path

from bench.analysis.pareto import Budget
from bench.analysis.rows import rows
from bench.record import Record
from bench.reporting.plots import PLOTS, draw, inline


def test_each_model_gets_the_figures_it_has_data_for(tmp_path: Path, records: list[Record]) -> None:
    figures = draw(rows(records), tmp_path, "report")
    of_tiny = [figure.file for figure in figures if not figure.subject.synthetic]
    of_random = [figure.file for figure in figures if figure.subject.synthetic]
    assert of_tiny == [f"report-tiny-smolvlm-{name}.svg" for name in PLOTS]
    measured = ("decode", "first-token", "memory")
    assert of_random == [f"report-smolvlm-500m-random-{name}.svg" for name in measured]
    for figure in figures:
        assert (tmp_path / figure.file).read_text().startswith("<?xml")
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {figure.file for figure in figures}, "nothing that no page shows"


def test_figures_are_reproducible(tmp_path: Path, records: list[Record]) -> None:
    one = [record for record in records if record.case.subject.recipe == "int8"]
    drawn = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        figures = draw(rows(one), tmp_path / name, "report")
        drawn.append([(tmp_path / name / figure.file).read_bytes() for figure in figures])
    assert drawn[0] == drawn[1]


def test_nothing_measured_draws_nothing(tmp_path: Path) -> None:
    assert draw((), tmp_path, "report") == ()
    assert list(tmp_path.iterdir()) == []


def test_figures_of_the_page_keep_text_and_have_the_files_names(
    tmp_path: Path, records: list[Record]
) -> None:
    figures, drawn = inline(rows(records), "report")
    assert figures == draw(rows(records), tmp_path, "report")
    assert list(drawn) == [figure.file for figure in figures]
    assert all("<text" in svg for svg in drawn.values())


def test_axes_are_labelled(records: list[Record]) -> None:
    _, drawn = inline(rows(records), "report", Budget("170 MB", 170_000_000))
    said = {name: drawn[f"report-tiny-smolvlm-{name}.svg"] for name in PLOTS}
    assert "(logarithmic)" in said["accuracy"]
    assert "Pareto front" in said["accuracy"]
    assert "640 × 480 pixels" in said["first-token"]
    assert "budget, 170 MB" in said["memory"]
    assert "peak of the process, MB" in said["memory"]
    assert "2 fell back" in said["storage"]


def test_rows_of_a_gpu_show_gpu_memory(records: list[Record]) -> None:
    own = records[2]
    memory = tuple(replace(m, device_bytes=5_000_000_000) for m in own.outcome.memory)
    on_gpu = replace(
        own,
        case=replace(own.case, device="cuda"),
        outcome=replace(own.outcome, memory=memory, budget_bytes=7 * 10**9),
    )
    _, drawn = inline(rows([on_gpu]), "report")
    shown = drawn["report-tiny-smolvlm-memory.svg"]
    assert "GPU memory, MB" in shown
    assert ">5000<" in shown


def test_the_whole_is_labelled_when_far_beyond_its_steps(records: list[Record]) -> None:
    late = records[2].outcome.timings[0]
    slow = replace(late, first_token_s=0.9876)
    outcome = replace(records[2].outcome, timings=(slow, slow))
    _, drawn = inline(rows([replace(records[2], outcome=outcome)]), "report")
    assert "988" in drawn["report-tiny-smolvlm-first-token.svg"]


def test_a_figures_file_is_in_its_folder_whatever_the_models_name(
    tmp_path: Path, records: list[Record]
) -> None:
    for name in ("../../up", "x" * 300, "\ud800", "a/b"):
        named = [
            replace(r, case=replace(r.case, subject=replace(r.case.subject, model=name)))
            for r in records
            if r.case.subject.recipe == "int8"
        ]
        folder = tmp_path / "figures"
        folder.mkdir(exist_ok=True)
        for figure in inline(rows(named), "report")[0]:
            assert (folder / figure.file).resolve().parent == folder
            assert len(figure.file) < 200
