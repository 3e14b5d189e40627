"""Other projects' programs beside ours: their table, their checkpoint, and a run without them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import cli
from bench.peers.builders import BUILDERS
from bench.peers.checkpoint import write_decoder_checkpoint
from bench.peers.table import OURS, PEERS
from bench.record import Record
from bench.reporting.markdown import markdown
from bench.reporting.peers import Line, document
from export.checkpoint.registry import open_model
from export.errors import UserError
from runtimes import RUNTIMES
from runtimes.peers.environments import ENVIRONMENTS
from tests.bench.made import latency, subject

LINES = (
    Line("ours: onnxruntime", "onnxruntime", None, "text, images"),
    Line("genai 1.0", "genai", "onnxruntime", "text"),
    Line("openvino 2.0", "openvino", "onnxruntime", "text", "it is not made (make peers)"),
    Line("server", "llama_server", "onnxruntime", "text"),
)


def in_turns(records: list[Record], minute: int) -> list[Record]:
    return [
        replace(one, started_at=f"2026-11-29T12:0{one.case.round}:{minute:02}+00:00")
        for one in records
    ]


def test_a_table_has_ratios_to_ours_and_reasons_for_what_is_missing() -> None:
    ours = in_turns(latency(subject("int4", 1.0), "onnxruntime", 1.0, 10**8), 1)
    theirs = in_turns(latency(subject("int4", 1.0), "genai", 2.0, 3 * 10**8), 2)
    failed = replace(theirs[0], status="failed", reason="killed by SIGKILL")
    failed = replace(failed, case=replace(failed.case, runtime="llama_server"))
    text = markdown(document(LINES, [*ours, *theirs, failed], "4 text tokens + 2 tokens", 1))
    header, _, first, second, *_ = text.splitlines()
    assert [cell.strip() for cell in first.split("|")][2:4] == ["–", "text, images"]
    cells = dict(zip(header.split("|"), second.split("|"), strict=True))
    found = {name.strip(): cell.strip() for name, cell in cells.items()}
    assert found["beside"] == "onnxruntime"
    assert found["processes"] == "2"
    assert found["prompt"].isdigit()
    assert [cell.strip() for cell in second.split("|") if "2.00 [" in cell]
    assert "3.00 [3.00, 3.00]" in second
    assert "- **openvino 2.0**: it is not made (make peers)" in text
    assert "- **server**: killed by SIGKILL" in text
    assert "1 thread and answered the same request (4 text tokens + 2 tokens)" in text


def test_every_peer_has_its_runtime_environment_and_builder() -> None:
    for peer in PEERS:
        row = RUNTIMES[peer.runtime]
        assert row.hidden
        assert not row.ours
        assert row.opens(peer.target)
        assert peer.target in {*BUILDERS, *OURS.values()}
        assert peer.environment in ENVIRONMENTS
        assert RUNTIMES[peer.beside].ours
        assert any(letter.isdigit() for letter in peer.title)


def test_peers_get_a_checkpoint_that_transformers_reads(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from transformers import LlamaForCausalLM

    model = open_model("tiny-smolvlm", weights="synthetic")
    write_decoder_checkpoint(model, tmp_path / "made")
    read, loading = LlamaForCausalLM.from_pretrained(tmp_path / "made", output_loading_info=True)
    assert not any(loading.values())
    assert read.config.num_hidden_layers == model.vlm.text.layers
    assert read.config.rope_parameters["rope_theta"] == model.vlm.text.rope_theta


def test_a_decoder_that_is_no_llama_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="peers get only Llama's decoder from us"):
        write_decoder_checkpoint(open_model("tiny-gemma3", weights="synthetic"), tmp_path / "made")


@pytest.mark.parametrize(
    ("name", "ours"),
    [("tiny-smolvlm", ["onnxruntime", "llama_cpp"]), ("tiny-moondream", ["onnxruntime"])],
)
def test_without_peers_ours_are_measured_and_the_remedies_told(
    name: str,
    ours: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("llama_cpp")
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = Path("models", name).resolve()
    monkeypatch.chdir(tmp_path)
    words = ["--rounds", "1", "--repeats", "1", "--threads", "1", "-o", "run.jsonl"]
    sizes = ["--prefill-tokens", "4", "--decode-tokens", "2"]
    assert cli.main(["peers", str(model), "--weights", "synthetic", *sizes, *words]) == 0
    told, noted = capfd.readouterr()
    if RUNTIMES["openvino"].unavailable("native"):
        assert "(pip install 'pocket-vlm[openvino]')" in told
    else:
        ours = [name for name in OURS if name in (*ours, "openvino")]
    for runtime in OURS:
        assert (f"| ours: {runtime}" in told) == (runtime in ours)
    if "llama_cpp" not in ours:
        assert "- **ours: llama_cpp**: we cannot export the model for it, see above" in told
        assert "llama.cpp does not; export with --layout onnx-vision" in noted
    assert "its environment genai is not made (make peers ARGS=genai)" in told
    assert "llama-mtmd-cli of llama_cpp_python 0.3.36**: it takes images alone" in told
    assert "- **mobius-onnx 0.1.0**: it writes no 4 bits without Olive" in told
    records = [json.loads(line) for line in Path("run.jsonl").read_text().splitlines()]
    assert [one["case"]["runtime"] for one in records] == ours
    assert {one["outcome"]["threads"]["reason"] for one in records} == {"asked"}
