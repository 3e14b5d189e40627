"""The real optimum-cli finds our command, in a wheel and in an editable installation."""

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from export.artifact import load_artifact
from export.checkpoint.registry import open_model

pytest.importorskip("optimum.commands")
hatchling = pytest.importorskip("hatchling.build")

ROOT = Path(__file__).parents[2]
COMMAND = Path("optimum/commands/register/pocketvlm.py")
TINY = str(ROOT / "models" / "tiny-smolvlm")
SCRIPT = Path(sys.executable).with_name("optimum-cli")


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Our distribution as pip would unpack it: the PYTHONPATH that makes it importable."""
    folder = tmp_path_factory.mktemp(request.param)
    build = {"wheel": hatchling.build_wheel, "editable": hatchling.build_editable}[request.param]
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        name = build(str(folder))
    finally:
        os.chdir(before)
    site = folder / "site"
    with zipfile.ZipFile(folder / name) as archive:
        archive.extractall(site)
    assert (site / COMMAND).read_bytes() == (ROOT / "export" / "optimum_register.py").read_bytes()
    assert not list(site.glob("optimum/**/__init__.py"))  # the namespace has none (PEP 420)
    namespace = find_spec("optimum.commands.register")
    places = namespace.submodule_search_locations or () if namespace else ()
    if any((Path(place) / COMMAND.name).exists() for place in places):
        (site / COMMAND).unlink()  # the tests' own environment has it, and Optimum takes both
    paths = sorted({line for path in site.glob("*.pth") for line in path.read_text().split()})
    assert (request.param == "editable") == (paths == [str(ROOT)])
    assert (site / "export" / "optimum_command.py").exists() == (request.param == "wheel")
    return os.pathsep.join([str(site), *paths])


def optimum_cli(installed: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [str(SCRIPT), "export", "pocketvlm", *arguments]
    variables = os.environ | {"PYTHONPATH": installed}
    return subprocess.run(
        program, cwd=folder, env=variables, capture_output=True, text=True, check=False
    )


def test_it_exports_what_our_own_command_exports(installed: str, tmp_path: Path) -> None:
    arguments = ["--model", TINY, "--target", "onnx", "--recipe", "int4", "--no-verify", "OUT"]
    done = optimum_cli(installed, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert "bits per weight" in done.stdout
    ours = [sys.executable, "-m", "export", TINY, "--target", "onnx", "--recipe", "int4"]
    other = tmp_path / "other"
    subprocess.run([*ours, "--no-verify", "--out", str(other)], cwd=ROOT, check=True)
    manifest, expected = load_artifact(tmp_path / "OUT").manifest, load_artifact(other).manifest
    assert manifest.files == expected.files
    assert manifest.vlm == open_model(TINY).vlm


def test_a_users_error_is_one_line_and_exit_code_2(installed: str, tmp_path: Path) -> None:
    arguments = ["--model", str(tmp_path), "--target", "onnx", "--recipe", "int4", "OUT"]
    done = optimum_cli(installed, tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "OUT").exists()


def test_its_help_names_the_options(installed: str, tmp_path: Path) -> None:
    done = optimum_cli(installed, tmp_path, "--help")
    assert done.returncode == 0
    for option in ("--model", "--target", "--recipe", "--layout", "--offline"):
        assert option in done.stdout
