"""The examples of docs/reference/layouts.md run as they stand there, in the clients themselves."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import ROOT, blocks

from clients.conftest import HERE, Export, expect_genai, expect_node
from export.checkpoint.registry import open_model
from runtimes.proof.probes import probes

PAGE = ROOT / "docs" / "reference" / "layouts.md"
RUNS: dict[str, tuple[str, Callable[[], None], list[str]]] = {
    "js": ("transformers.js", expect_node, ["node"]),
    "python": ("genai", expect_genai, [sys.executable]),
}


@pytest.mark.parametrize("language", RUNS)
def test_the_pages_example_answers(language: str, exported: Export, tmp_path: Path) -> None:
    layout, expect_client, command = RUNS[language]
    expect_client()
    (example,) = blocks(PAGE, language)
    (model,) = set(re.findall(r"build/([\w.-]+)/", example))
    artifact = exported(open_model(model), "int4", layout)
    (tmp_path / "build" / model).mkdir(parents=True)
    (tmp_path / "build" / model / f"onnx-int4-{layout}").symlink_to(artifact.path)
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    probes(112)[0].images[0].save(tmp_path / "picture.png")
    script = tmp_path / {"js": "example.mjs", "python": "example.py"}[language]
    script.write_text(example, encoding="utf-8")
    done = subprocess.run(
        [*command, script.name],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "red"
