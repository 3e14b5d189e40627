"""The footprint gate: growth fails and is named, accepting is a decision, shrinking passes."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.analysis.baselines import Accepted, differences, load, save
from bench.cli import main, parser
from bench.commands.check import run
from bench.reporting.footprints import differing

ROWS = [
    Accepted("small", "onnx", "int4", 1000, 64, 5000, {"a.onnx": 400, "a.onnx_data": 600}),
    Accepted("small", "gguf", "int4", 900, 32, 4000, {"small.gguf": 900}),
]


def changed(**changes: object) -> list[Accepted]:
    return [replace(ROWS[0], **changes), ROWS[1]]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (ROWS, []),
        (changed(peak_bytes=5001), [("peak_bytes", "grew", True)]),
        (changed(kv_bytes_per_token=65), [("kv_bytes_per_token", "grew", True)]),
        (changed(disk_bytes=999), [("disk_bytes", "shrank", False)]),
        (
            changed(disk_bytes=1001, peak_bytes=4000),
            [("disk_bytes", "grew", True), ("peak_bytes", "shrank", False)],
        ),
        (
            [*ROWS, replace(ROWS[0], recipe="int8")],
            [
                ("disk_bytes", "new", True),
                ("kv_bytes_per_token", "new", True),
                ("peak_bytes", "new", True),
            ],
        ),
        (
            ROWS[:1],
            [
                ("disk_bytes", "gone", False),
                ("kv_bytes_per_token", "gone", False),
                ("peak_bytes", "gone", False),
            ],
        ),
    ],
)
def test_differences_from_the_baseline_are_reported(
    now: list[Accepted], expected: list[tuple[str, str, bool]]
) -> None:
    found = [(d.quantity, d.verdict, d.fails) for d in differences(ROWS, now)]
    assert found == expected


def test_the_table_names_export_quantity_and_files() -> None:
    now = changed(disk_bytes=1100, files={"a.onnx": 400, "a.onnx_data": 700})
    found = differing(differences(ROWS, now))
    assert (
        "| small onnx int4 | disk_bytes | grew    | a.onnx_data |    1,000 | 1,100 | +10.0 % |"
        in (found)
    )


def test_one_byte_of_a_gigabyte_is_shown() -> None:
    before, after = (changed(disk_bytes=n, files={}) for n in (10**9, 10**9 + 1))
    assert "0.00100 ppm" in differing(differences(before, after))


def test_growth_from_nothing_has_no_share() -> None:
    before, after = (changed(kv_bytes_per_token=n) for n in (0, 8))
    assert "grew" in differing(differences(before, after))


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    save(tmp_path / "deep" / "baseline.json", ROWS)
    assert load(tmp_path / "deep" / "baseline.json") == ROWS


def test_growth_fails_until_it_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(*flags: str) -> int:
        arguments = parser().parse_args(["check", "--baseline", str(baseline), *flags])
        return run(arguments, models=["tiny-smolvlm"])

    baseline = tmp_path / "baseline.json"
    assert check("--update") == 0
    now = load(baseline)
    files = dict(now[0].files)
    files["vision_encoder.onnx"] -= 1
    before = replace(now[0], disk_bytes=now[0].disk_bytes - 1, files=files)
    save(baseline, [before, *now[1:]])
    capsys.readouterr()
    assert check() == 1
    told = capsys.readouterr().out
    assert "| tiny-smolvlm onnx fp32 | disk_bytes | grew    | vision_encoder.onnx |" in told
    assert "1 quantity grew or new; `bench check --update` accepts" in told
    assert check("--update") == 0
    assert check() == 0


@pytest.mark.parametrize(
    ("content", "message", "remedy"),
    [
        (None, "there is no baseline", "`bench check --update`"),
        ("{broken", "JSON", "`bench check --update`"),
        ('{"schema": 0, "rows": []}', "has schema 0", "`bench check --update`"),
        ('{"schema": 2, "rows": []}', "has schema 2, expected 1", "update PocketVLM"),
        ('{"schema": 1, "rows": [{"model": "x"}]}', "cannot be used", "`bench check --update`"),
        ('{"schema": 1, "rows": true}', "rows", "`bench check --update`"),
    ],
)
def test_an_unusable_baseline_is_a_users_error_with_the_remedy(
    content: str | None,
    message: str,
    remedy: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    baseline = tmp_path / "baseline.json"
    if content is not None:
        baseline.write_text(content)
    assert main(["check", "--baseline", str(baseline)]) == 2
    error = capsys.readouterr().err
    assert str(baseline) in error
    assert message in error
    assert remedy in error
    assert error.count("\n") == 1
