"""A user's fine-tune: saved by transformers, exported, proven and asked like any other model."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, Idefics3ForConditionalGeneration

from bench.cli import main as bench
from export.__main__ import main as export

TWIN = Path(__file__).parent.parent / "models" / "tiny-smolvlm"

QUESTION, ANSWER = "what shape is in the image?", " triangle<end_of_utterance>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The twin after a few steps of training that make it call everything a triangle."""
    folder = tmp_path_factory.mktemp("fine-tune") / "my-fine-tune"
    processor = AutoProcessor.from_pretrained(TWIN)
    model = Idefics3ForConditionalGeneration.from_pretrained(TWIN, dtype=torch.float32)
    text = f"<|im_start|>User:<image>{QUESTION}<end_of_utterance>\nAssistant:{ANSWER}"
    batch = processor(text=text, images=[[picture()]], return_tensors="pt")
    labels = batch["input_ids"].clone()
    labels[:, : -len(processor.tokenizer(ANSWER).input_ids)] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    for _ in range(12):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def picture() -> Image.Image:
    image = Image.new("RGB", (64, 64), (230, 230, 220))
    image.paste((0, 0, 255), (16, 16, 48, 48))
    return image


@pytest.mark.parametrize(("target", "recipe"), [("onnx", "int8"), ("gguf", "fp16")])
def test_it_is_exported_proven_and_answers(
    folder: Path, target: str, recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "artifact"
    assert export([str(folder), "--target", target, "--recipe", recipe, "--out", str(out)]) == 0
    manifest = json.loads((out / "artifact.json").read_text())
    assert manifest["model"] == "my-fine-tune"
    assert manifest["proof"]["passed"] is True
    assert manifest["proof"]["checks"]["preprocessing"]["equal"] is True
    picture().save(tmp_path / "picture.png")
    capsys.readouterr()
    assert bench(["ask", str(out), str(tmp_path / "picture.png"), QUESTION, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["answer"].strip() == "triangle"
    assert answer["first_token_s"] > 0
