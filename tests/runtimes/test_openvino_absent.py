"""The runtime `openvino` says what installs it, and runs only where it is named."""

import sys
from pathlib import Path

import pytest
from tiny_models import hf_model, tiny_artifact, tiny_model

from export.errors import UserError
from runtimes import RUNTIMES
from runtimes.answer import runtime_for

ROW = RUNTIMES["openvino"]


def test_it_says_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # as if it was not installed
    assert ROW.unavailable("native") == (
        "openvino is not installed (pip install 'pocket-vlm[openvino]')"
    )


@pytest.mark.parametrize("layout", ["transformers.js", "genai", "cuda", "ort"])
def test_it_runs_only_the_native_layout(layout: str) -> None:
    assert ROW.runs_layout("native")
    assert f"it runs layout native, and this is {layout}" in str(ROW.unavailable(layout))


def test_it_is_listed_but_never_chosen(tmp_path: Path) -> None:
    artifact = tiny_artifact(tiny_model(hf_model("grouped heads")), "onnx", "fp32", tmp_path)
    assert (ROW.hidden, ROW.default) == (False, False)
    assert runtime_for(artifact) is RUNTIMES["onnxruntime"]
    with pytest.raises(UserError, match="choose onnxruntime or openvino"):
        runtime_for(artifact, "llama_cpp")
