"""`bench footprint`: the shape that others rely on, from configurations alone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.analysis.baselines import accepted, differences
from bench.analysis.predictions import predict
from bench.cli import main
from bench.machine.profiles import PROFILES
from bench.reporting.footprints import predicted
from export.checkpoint.registry import list_models
from export.memory import RuntimeMemory
from export.target import Target, late

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "onnxruntime", "llama_cpp", "matplotlib", "scipy")

PREDICTED = ("--target", "onnx", "--target", "gguf", "--target", "executorch")
"""Targets whose peaks are predicted."""


def test_json_is_the_promised_list(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--target", "onnx", "--recipe", "int4", "--recipe", "int8", "--json"]
    assert main(["footprint", "smolvlm-256m", *flags]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [list(row) for row in rows] == 2 * [
        ["model", "target", "recipe", "disk_bytes", "kv_bytes_per_token", "peak_bytes", "fits"]
    ]
    assert [(row["target"], row["recipe"]) for row in rows] == [("onnx", "int4"), ("onnx", "int8")]
    assert list(rows[0]["fits"]) == list(PROFILES)
    assert rows[0]["disk_bytes"] < rows[1]["disk_bytes"]


def test_a_folder_with_only_configurations_is_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my-finetune"
    shutil.copytree(ROOT / "models/configs/smolvlm-256m", folder)
    assert main(["footprint", str(folder), "--target", "gguf", "--recipe", "int4"]) == 0
    assert "| my-finetune | gguf   | int4 " in capsys.readouterr().out


def test_a_shorter_context_takes_less_memory(capsys: pytest.CaptureFixture[str]) -> None:
    peaks = []
    for context in ("512", "4096"):
        flags = ["--target", "gguf", "--recipe", "int4", "--context", context, "--json"]
        assert main(["footprint", "smolvlm-500m", *flags]) == 0
        peaks.append(json.loads(capsys.readouterr().out)[0]["peak_bytes"])
    assert peaks[0] < peaks[1]


def test_a_model_fits_where_its_peak_is_within_the_budget(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["footprint", "smolvlm-2.2b", *PREDICTED, "--json"]) == 0
    for row in json.loads(capsys.readouterr().out):
        for name, fits in row["fits"].items():
            assert fits == (row["peak_bytes"] <= PROFILES[name].memory_bytes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-model"], "unknown model 'no-such-model'"),
        (["smolvlm-256m", "--recipe", "int5"], "did you mean int"),
    ],
)
def test_a_wrong_name_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["footprint", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def unexpected(told: str) -> list[str]:
    """Lines on stderr but those of the exports that cannot be: some families have no GGUF yet."""
    return [line for line in told.splitlines() if " cannot be written as GGUF yet" not in line]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["footprint", "tiny-smolvlm"], "| tiny-smolvlm | gguf "), (["check"], "nothing grew")],
    ids=["footprint", "the committed baseline"],
)
def test_no_runtime_and_no_torch_is_imported(arguments: list[str], told: str) -> None:
    program = (
        "import sys\n"
        "from bench.cli import main\n"
        f"main({arguments!r})\n"
        f"sys.stderr.write(' '.join(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert unexpected(done.stderr) == []
    assert told in done.stdout


def test_every_model_of_the_table_is_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["footprint", "--recipe", "int4", "--json"]) == 0
    found = capsys.readouterr()
    assert {row["model"] for row in json.loads(found.out)} == set(list_models())
    assert unexpected(found.err) == []


def test_what_a_target_cannot_predict_is_a_dash_and_no_difference() -> None:
    memory = RuntimeMemory("fake", 2, lambda vlm, recipe, files, request: 10**8)
    targets = {
        "traced": Target(("native",), late("no.such:function"), memory=memory),
        "unknown": Target(("native",), late("no.such:function")),
    }
    rows, refusals = predict(["tiny-smolvlm"], targets, ["int4"])
    assert refusals == []
    assert [(row.disk_bytes, row.peak_bytes, set(row.fits.values())) for row in rows] == [
        (None, None, {None})
    ] * 2
    assert rows[0].kv_bytes_per_token is not None
    assert rows[1].kv_bytes_per_token is None
    *_, line = predicted(rows).splitlines()
    assert {cell.strip() for cell in line.split("|")[4:-1]} == {"–"}
    assert differences(accepted(rows), accepted(rows)) == []
