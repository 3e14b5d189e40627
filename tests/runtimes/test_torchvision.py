"""The proof holds whatever torchvision is installed: none, a broken one or a sound one.

A process each, because transformers looks once for torchvision and keeps what it found.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from declared_torchvision import fetched

ROOT = Path(__file__).parents[2]
EXPORT = "import sys; from export.__main__ import main; sys.exit(main(sys.argv[1:]))"
DECLARED = "from declared_torchvision import declare; declare(); import torchvision; "
BACKENDS = """
from declared_torchvision import declare
declare()
import sys
from transformers import AutoProcessor
from export.checkpoint.registry import open_model
from runtimes.prepare.image import edge
from runtimes.proof import pixels
from runtimes.proof.probes import probes
print(type(AutoProcessor.from_pretrained("models/tiny-qwen2.5-vl").video_processor).__name__)
model = open_model("tiny-qwen2.5-vl")
asked = probes(edge(model.image.within(None)))
for pixels.BACKEND in ("pil", "torchvision"):
    found = pixels.compare(model, asked)
    print(found.backend, found.largest > 1e-3)
"""


def ran(code: str, site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The result of Python code that finds packages in `site`, too."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "shared", site)))
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


def checks(code: str, site: Path, out: Path, model: str = "tiny-smolvlm") -> Any:
    """The checks of the proof of an export that succeeds."""
    words = [model, "--target", "onnx", "--recipe", "int8", "--out", str(out)]
    done = ran(code, site, *words)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    proof = json.loads((out / "artifact.json").read_text())["proof"]
    assert proof["passed"] is True
    return proof["checks"]


def expect_both_rungs(found: Any) -> None:
    assert found["preprocessing"]["equal"] is True
    assert found["preprocessing"]["backend"] == "pil"
    assert found["reference"]["max_error"] < 1e-5


def test_one_whose_import_fails_is_as_good_as_absent(tmp_path: Path) -> None:
    package = tmp_path / "site" / "torchvision"
    package.mkdir(parents=True)
    error = "operator torchvision::nms does not exist"
    (package / "__init__.py").write_text(f"raise RuntimeError({error!r})\n")
    expect_both_rungs(checks(EXPORT, package.parent, tmp_path / "out"))


@pytest.mark.packages
def test_the_released_one_beside_a_cpu_build_of_torch_is_survived(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    site = fetched(request.config.cache.mkdir("torchvision"))
    alone = ran("import torchvision", site)
    assert "RuntimeError: operator torchvision::nms does not exist" in alone.stderr
    expect_both_rungs(checks(EXPORT, site, tmp_path / "out"))


@pytest.mark.packages
@pytest.mark.parametrize("model", ["tiny-smolvlm", "tiny-gemma3", "tiny-qwen2.5-vl"])
def test_a_sound_one_is_not_compared_with(
    model: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    site = fetched(request.config.cache.mkdir("torchvision"))
    expect_both_rungs(checks(DECLARED + EXPORT, site, tmp_path / "out", model))


@pytest.mark.packages
def test_a_sound_one_rounds_otherwise_and_opens_video_processors(
    request: pytest.FixtureRequest,
) -> None:
    """The reason for not comparing with it, and what other tests may use it for."""
    site = fetched(request.config.cache.mkdir("torchvision"))
    done = ran(BACKENDS, site)
    assert done.stdout.split("\n")[:3] == [
        "Qwen2VLVideoProcessor",
        "pil False",
        "torchvision True",
    ], done.stderr
