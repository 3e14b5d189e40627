"""What a checkpoint holds and an export leaves out is said in one line each."""

import json
from pathlib import Path
from typing import Any

import pytest

from export.__main__ import main
from export.artifact import load_artifact
from export.checkpoint.registry import open_model
from export.checkpoint.unused import DECODING
from tests.export.checkpoints import CONFIG, make, save_json

ENDS = {"eos_token_id": [2, 399]}
SETTINGS: dict[str, tuple[dict[str, Any], str | None]] = {
    "the ends of answers": (ENDS, None),
    "sampling": (
        {"do_sample": True, "temperature": 0.1, "top_k": 1, "top_p": 0.001, "min_p": 0.1},
        None,
    ),
    "values that change nothing": (dict(DECODING) | {"suppress_tokens": [], "num_beams": 1}, None),
    "a penalty": ({"repetition_penalty": 1.05}, "without repetition_penalty 1.05 of generation_"),
    "several": (
        {"no_repeat_ngram_size": 3, "temperature": 2.0, "bad_words_ids": [[5, 6]]},
        "without no_repeat_ngram_size 3, bad_words_ids [[5, 6]] of generation_config.json",
    ),
    "forced tokens": ({"forced_eos_token_id": 2}, "without forced_eos_token_id 2 of"),
    "a least length": ({"min_new_tokens": 4}, "without min_new_tokens 4 of"),
    "beams": ({"num_beams": 4}, "without num_beams 4 of"),
    "a value of another type": ({"sequence_bias": "x" * 999}, "without sequence_bias xx"),
}


def decoding_notes(folder: Path) -> list[str]:
    return [note for note in open_model(str(folder)).notes if "without sampling" in note]


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_change_greedy_answers_are_noted(name: str, tmp_path: Path) -> None:
    settings, said = SETTINGS[name]
    folder = make(tmp_path / "model")
    save_json(folder / "generation_config.json", ENDS | settings)
    notes = decoding_notes(folder)
    assert len(notes) == (0 if said is None else 1)
    assert all(str(said) in note and len(note) < 300 for note in notes)


def test_settings_of_config_json_count_where_there_is_no_other_file(tmp_path: Path) -> None:
    folder = make(tmp_path / "model")
    save_json(folder / "config.json", CONFIG | {"repetition_penalty": 1.2})
    (note,) = decoding_notes(folder)
    assert "repetition_penalty 1.2 of config.json" in note
    save_json(folder / "generation_config.json", ENDS)
    assert decoding_notes(folder) == []


def test_an_adapter_beside_the_weights_is_noted_in_summary_and_artifact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = make(tmp_path / "model"), tmp_path / "out"
    save_json(folder / "adapter_config.json", {"base_model_name_or_path": "x/y"})
    save_json(folder / "generation_config.json", {"repetition_penalty": 1.05})
    words = ["--target", "onnx", "--recipe", "int8", "--no-verify", "--out", str(out)]
    assert main([str(folder), *words]) == 0
    shown = capsys.readouterr().out
    limits = load_artifact(out).manifest.details.limits
    for said in ("the adapter beside the weights (adapter_config.json) is not", "penalty 1.05 of"):
        (note,) = (limit for limit in limits if said in limit)
        assert f"  note: {note}\n" in shown


@pytest.mark.parametrize("files", [["config.json"], []])
def test_an_adapter_without_its_model_is_refused(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = make(tmp_path / "model"), tmp_path / "out"
    for path in folder.iterdir():
        if path.name not in (*files, "tokenizer.json", "preprocessor_config.json"):
            path.unlink()
    base = {"base_model_name_or_path": "HuggingFaceTB/SmolVLM-256M-Instruct"}
    (folder / "adapter_config.json").write_text(json.dumps(base))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    assert main([str(folder), "--target", "onnx", "--recipe", "int8", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "merge it into its model (PEFT: model.merge_and_unload(), then save_pretrained)" in said
    assert ("HuggingFaceTB/SmolVLM-256M-Instruct" in said) == (not files)
    assert not out.exists()
