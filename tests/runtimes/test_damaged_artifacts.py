"""An artifact with a changed or invalid file is refused in one line, whichever way it is opened."""

import json
import random
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

import runtimes
from bench.cli import main
from export.artifact import MANIFEST, Artifact, digests, load_artifact, save_manifest
from export.checkpoint.registry import data_root, open_model
from export.errors import UserError
from runtimes import RUNTIMES
from runtimes.onnxruntime import tower
from tests.shared.tiny_models import tiny_artifact

VISION, SIGNED = "vision_encoder.onnx", "vision_encoder_signed.onnx"
DECODER, TABLE = "decoder_model_merged.onnx", "embed_tokens.onnx"
WEIGHTS = "decoder_model_merged.onnx_data"
PICTURE = data_root() / "models" / "example.png"


def flip(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def erase(data: bytes) -> bytes:
    return bytes(len(data))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    model, folders = open_model("tiny-smolvlm"), {}
    for target in ("onnx", "gguf"):
        folder = tmp_path_factory.mktemp(target)
        artifact = tiny_artifact(model, target, "int4", folder)
        save_manifest(replace(artifact.manifest, files=digests(folder)), folder)
        folders[target] = folder
    return folders


def changed(folder: Path, copy: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    shutil.copytree(folder, copy)
    (copy / name).write_bytes(change((copy / name).read_bytes()))
    return copy


def described(folder: Path) -> Artifact:
    """The artifact, with a manifest that agrees with whatever its files are now."""
    content = json.loads((folder / MANIFEST).read_text())
    files = {n: {"bytes": f.bytes, "sha256": f.sha256} for n, f in digests(folder).items()}
    (folder / MANIFEST).write_text(json.dumps(content | {"files": files}))
    return load_artifact(folder)


def ask(folder: Path) -> list[str]:
    return ["ask", str(folder), str(PICTURE), "what color is it?"]


CHANGES = {
    "a bit of the weights": ("onnx", WEIGHTS, flip),
    "a graph of zeros": ("onnx", VISION, erase),
    "the tokenizer": ("onnx", "tokenizer.json", flip),
    "a bit of a GGUF file": ("gguf", "tiny-smolvlm-Q4_0.gguf", flip),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_file_that_changed_since_the_export_is_refused_by_both_digests(
    case: str, made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, name, change = CHANGES[case]
    folder = changed(made[target], tmp_path / "copy", name, change)
    assert main(ask(folder)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    files = load_artifact(folder).manifest.files
    assert line == (
        f"bench: {folder / name} changed since the export: its SHA-256 is "
        f"{digests(folder)[name].sha256}, expected {files[name].sha256}; export it again, or copy "
        f"it again from where it is sound"
    )
    with pytest.raises(UserError, match="changed since the export"):
        runtimes.open_session(folder, threads=1)


@pytest.mark.parametrize("runtime", [n for n, row in RUNTIMES.items() if row.opens("onnx")])
def test_every_runtime_of_artifacts_checks_the_digests(
    runtime: str, made: dict[str, Path], tmp_path: Path
) -> None:
    row = RUNTIMES[runtime]
    if row.unavailable() is not None or "cpu" not in row.devices:
        pytest.skip("it cannot run here")
    folder = changed(made["onnx"], tmp_path / "copy", WEIGHTS, flip)
    with pytest.raises(UserError, match="changed since the export"):
        row.open_session(load_artifact(folder), threads=1)


@pytest.mark.parametrize("name", [VISION, SIGNED, DECODER, TABLE])
def test_a_graph_that_is_none_is_one_line(
    name: str,
    made: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tower, "signed_is_better", lambda: name == SIGNED)
    folder = changed(made["onnx"], tmp_path / "copy", name, erase)
    described(folder)
    assert main(ask(folder)) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"{name}: onnxruntime cannot use it on the CPU (" in err
    assert err.endswith("; export it again\n")


OVERHEAD = (*("--pairs", "1", "--openings", "1", "--threads", "1"), "--decode-tokens", "2")


def lines_of_overhead(folder: Path, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """What `bench overhead`, which loads a bare loop first, says when it refuses the artifact."""
    assert main(["overhead", str(folder), *OVERHEAD]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    return err.splitlines()


LOADED = {
    DECODER: ("onnx", "onnxruntime cannot use it on the CPU (", "; export it again"),
    TABLE: ("onnx", "onnxruntime cannot use it on the CPU (", "; export it again"),
    "tiny-smolvlm-Q4_0.gguf": ("gguf", "not a GGUF file", "; export the model again"),
}


@pytest.mark.parametrize("name", LOADED)
def test_a_bare_loop_refuses_files_in_one_line(
    name: str, made: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target, said, remedy = LOADED[name]
    folder = changed(made[target], tmp_path / "copy", name, erase)
    (line,) = lines_of_overhead(folder, capfd)
    assert "changed since the export" in line
    described(folder)
    (line,) = lines_of_overhead(folder, capfd)
    assert f"{name}: {said}" in line
    assert line.endswith(remedy)


@pytest.mark.parametrize("files", [None, []])
@pytest.mark.parametrize(
    ("target", "component"),
    [
        *(("onnx", part) for part in ("vision", "embedding", "decoder")),
        *(("gguf", part) for part in ("vision", "decoder")),
    ],
)
def test_a_component_without_a_file_is_one_line(
    target: str, component: str, files: list[str] | None, made: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made[target], folder)
    content = json.loads((folder / MANIFEST).read_text())
    content["components"] |= {component: files}
    if files is None:
        del content["components"][component]
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(UserError) as refused:
        runtimes.ask(folder, PICTURE, "what color is it?", max_tokens=1, threads=1)
    said = f"{folder / MANIFEST}: components names no file for {component}; export it again"
    assert str(refused.value) == said


@pytest.mark.parametrize("more", [-1, 1])
def test_another_number_of_layers_than_the_graph_has_is_one_line(
    more: int, made: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made["onnx"], folder)
    content = json.loads((folder / MANIFEST).read_text())
    content["vlm"]["text"]["layers"] += more
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"its cache is not that of the \d layers"):
        runtimes.ask(folder, PICTURE, "what color is it?", max_tokens=1, threads=1)


def test_a_bare_loop_refuses_graphs_that_it_cannot_run(
    made: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = onnx.load(made["onnx"] / TABLE, load_external_data=False)
    table.graph.input[0].name = "ids"
    for node in table.graph.node:
        node.input[:] = ["ids" if name == "input_ids" else name for name in node.input]
    folder = changed(made["onnx"], tmp_path / "a", TABLE, lambda _: table.SerializeToString())
    described(folder)
    (line,) = lines_of_overhead(folder, capfd)
    assert f"{folder}: onnxruntime cannot run it (" in line


def test_onnxruntime_genai_refuses_a_folder_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_genai")
    from runtimes.peers.program import ProgramSession

    for content in (None, "{", '{"model": {"type": "llama"}}'):
        if content is not None:
            (tmp_path / "genai_config.json").write_text(content)
        with pytest.raises(UserError, match=r"genai_text: .*; build it again with") as refused:
            ProgramSession(Path(sys.executable), "genai_text", tmp_path, threads=1)
        assert "\n" not in str(refused.value)


def test_damaged_graphs_are_refused_without_a_traceback(
    made: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tower, "signed_is_better", lambda: False)
    draw, answered = random.Random(7), 0
    for number in range(25):
        name = draw.choice([VISION, DECODER, TABLE])

        def damage(data: bytes) -> bytes:
            at, kind = draw.randrange(len(data) - 4), draw.randrange(3)
            one = bytes([data[at] ^ 1 << draw.randrange(8)])
            new = (one, b"\xff" * 4, b"")[kind]
            return data[:at] + new + data[at + len(new) :] if kind < 2 else data[:at]

        folder = changed(made["onnx"], tmp_path / str(number), name, damage)
        described(folder)
        with suppress(UserError):
            runtimes.ask(folder, PICTURE, "what color is it?", max_tokens=1, threads=1)
            answered += 1
        shutil.rmtree(folder)
    assert answered < 15
    assert capfd.readouterr().out == ""
