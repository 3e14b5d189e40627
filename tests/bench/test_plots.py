"""Figures are drawn from what is known, the same bytes from the same records."""

from pathlib import Path

from bench.plots import FIGURES, draw
from bench.record import Record
from bench.summary import rows


def test_each_model_gets_the_figures_it_has_data_for(tmp_path: Path, records: list[Record]) -> None:
    figures = draw(rows(records), tmp_path, "report")
    of_tiny = [figure.file for figure in figures if not figure.subject.synthetic]
    of_random = [figure.file for figure in figures if figure.subject.synthetic]
    assert of_tiny == [f"report-tiny-smolvlm-{name}.svg" for name in FIGURES]
    assert of_random == [
        f"report-smolvlm-500m-random-{name}.svg" for name in FIGURES if name != "accuracy"
    ]
    for figure in figures:
        drawn = tmp_path / figure.file
        assert drawn.read_text().startswith("<?xml")
        assert drawn.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


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
