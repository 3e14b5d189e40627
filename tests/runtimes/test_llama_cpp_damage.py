"""Damaged GGUF files do not abort the process: each is refused in one line, or answers."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_moondream
from tiny_models import tiny_artifact

from export.artifact import Artifact, digests, save_manifest
from export.checkpoint.registry import open_model
from export.errors import UserError
from export.model import Model
from runtimes import RUNTIMES

pytest.importorskip("llama_cpp")

ROOT = Path(__file__).parents[2]
FAMILIES = {"smolvlm": 60, "moondream": 30, "qwen2_5_vl": 30, "gemma3": 30}
"""family -> number of damaged headers to try for each file."""


def model_of(family: str) -> Model:
    if family == "moondream":  # its mmproj takes only the whole image
        model = tiny_moondream.tiny_moondream("legacy")
        assert model.image is not None
        return replace(model, image=model.image.within(1))
    twins = {"smolvlm": "tiny-smolvlm", "qwen2_5_vl": "tiny-qwen2.5-vl", "gemma3": "tiny-gemma3"}
    return open_model(twins[family])


def saved(model: Model, folder: Path) -> Artifact:
    made = tiny_artifact(model, "gguf", "int8", folder)
    save_manifest(replace(made.manifest, files=digests(folder)), folder)
    return made


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return saved(model_of("smolvlm"), tmp_path_factory.mktemp("artifact"))


@pytest.mark.parametrize("component", ["decoder", "vision"])
@pytest.mark.parametrize("family", FAMILIES)
def test_damaged_headers_do_not_abort_the_process(
    family: str, component: str, tmp_path: Path
) -> None:
    artifact = saved(model_of(family), tmp_path)
    program = [sys.executable, str(ROOT / "tests/shared/gguf_fuzz.py"), str(artifact.path)]
    run = subprocess.run(
        [*program, component, "0", str(FAMILIES[family])],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["died"] == []
    assert found["counts"]["10"] > 0


def boundaries(content: bytes) -> list[int]:
    """Offsets at and between the ends of a header's parts: fixed part, keys, values and names."""
    keys = [content.find(word) for word in (b"general.arch", b"tokenizer.ggml.tokens", b"blk.0.")]
    return [0, 1, 4, 8, 16, 24, *(start + n for start in keys for n in (-8, 0, 4, 30, 34))]


@pytest.mark.parametrize("component", ["decoder", "vision"])
def test_truncated_file_is_refused(component: str, artifact: Artifact) -> None:
    path = artifact.path / artifact.manifest.components[component][0]
    content = path.read_bytes()
    cuts = {*boundaries(content), *range(64, len(content), len(content) // 40), len(content) - 1}
    try:
        for cut in sorted(cut for cut in cuts if 0 <= cut < len(content)):
            path.write_bytes(content[:cut])
            with pytest.raises(UserError) as raised:
                RUNTIMES["llama_cpp"].open_session(artifact, threads=1)
            assert "\n" not in str(raised.value)
    finally:
        path.write_bytes(content)


def test_mmproj_in_place_of_the_decoder_is_refused(artifact: Artifact) -> None:
    decoder, vision = (
        artifact.path / artifact.manifest.components[part][0] for part in ("decoder", "vision")
    )
    content = decoder.read_bytes()
    try:
        decoder.write_bytes(vision.read_bytes())
        with pytest.raises(UserError, match="architecture is clip, expected llama"):
            RUNTIMES["llama_cpp"].open_session(artifact, threads=1)
    finally:
        decoder.write_bytes(content)


def test_vocabulary_of_another_size_is_refused(artifact: Artifact) -> None:
    path = artifact.path / artifact.manifest.components["decoder"][0]
    content, key = path.read_bytes(), b"tokenizer.ggml.token_type"
    at = content.index(key) + len(key) + 8  # after the types of the value and of its items
    count = int.from_bytes(content[at : at + 8], "little")
    assert count == artifact.manifest.vlm.text.vocab
    try:
        fewer = content[:at] + (count - 1).to_bytes(8, "little") + content[at + 8 : -4]
        path.write_bytes(fewer)
        with pytest.raises(UserError, match=f"model {count} tokens|damaged"):
            RUNTIMES["llama_cpp"].open_session(artifact, threads=1)
    finally:
        path.write_bytes(content)
