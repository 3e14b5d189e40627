"""A program that ExecuTorch cannot run is one line with what to do. -m executorch."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from built_artifacts import Made

from export.artifact import digests
from export.manifest import MANIFEST

pytestmark = pytest.mark.executorch
ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "models" / "example.png"
NONE = "is not a program of ExecuTorch's; export it again"
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "another version": (
        lambda data: data[:4] + b"ET99" + data[8:],
        "is a program of version ET99, and executorch reads ET12; export it again",
    ),
    "not a program": (
        lambda data: b"GGUF" * 9,
        "is not a program of ExecuTorch's; export it again",
    ),
    "nothing": (lambda data: b"", NONE),
    "cut in half": (
        lambda data: data[: len(data) // 2],
        "executorch cannot load it (File size is too small.",
    ),
    "zeros after its header": (
        lambda data: data[:64] + bytes(len(data) - 64),
        "executorch cannot load it (",
    ),
}
# As a build of ExecuTorch without the libraries of operators.
WITHOUT_LIBRARIES = """
import sys, torch
torch.ops.load_library = lambda path: None
from bench.cli import main
sys.exit(main(sys.argv[1:]))
"""


def ask(folder: Path) -> list[str]:
    return ["ask", str(folder), str(PICTURE), "what color is it?"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_program_is_one_line(damage: str, made: Made, tmp_path: Path) -> None:
    change, words = DAMAGES[damage]
    source, folder = made("tiny-smolvlm", "fp32").path, tmp_path / "copy"
    shutil.copytree(source, folder)
    (folder / "model.pte").write_bytes(change((folder / "model.pte").read_bytes()))
    content = json.loads((folder / MANIFEST).read_text())
    files = {n: {"bytes": f.bytes, "sha256": f.sha256} for n, f in digests(folder).items()}
    (folder / MANIFEST).write_text(json.dumps(content | {"files": files}))
    command = [sys.executable, "-W", "ignore", "-m", "bench", *ask(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"bench: {folder / 'model.pte'}: {words}")
    assert line.endswith("export it again")


def test_operators_that_a_build_lacks_are_named(made: Made) -> None:
    folder = made("tiny-smolvlm", "fp32").path
    words = [sys.executable, "-W", "ignore", "-c", WITHOUT_LIBRARIES, *ask(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "this build of executorch has no operators llama::custom_sdpa.out" in line
    assert line.endswith("or export it again with this one")
