"""A bundle that cannot be run is one line with what to do. make litert."""

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

pytestmark = pytest.mark.litert
ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "models" / "example.png"
NONE = "is not a bundle of LiteRT-LM's; export it again"
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "not a bundle": (lambda data: b"GGUF" * 9, NONE),
    "nothing": (lambda data: b"", NONE),
    "a header alone": (lambda data: data[:40], NONE),
    "cut in half": (lambda data: data[: len(data) // 2], "is cut off; export it again"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_is_one_line(damage: str, made: Made, tmp_path: Path) -> None:
    change, words = DAMAGES[damage]
    source, folder = made("tiny-smolvlm", "fp32").path, tmp_path / "copy"
    shutil.copytree(source, folder)
    bundle = folder / "model.litertlm"
    bundle.write_bytes(change(bundle.read_bytes()))
    content = json.loads((folder / MANIFEST).read_text())
    files = {n: {"bytes": f.bytes, "sha256": f.sha256} for n, f in digests(folder).items()}
    (folder / MANIFEST).write_text(json.dumps(content | {"files": files}))
    words_of_cli = ["-m", "bench", "ask", str(folder), str(PICTURE), "what color is it?"]
    command = [sys.executable, "-W", "ignore", *words_of_cli]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line == f"bench: {bundle}: {words}"
