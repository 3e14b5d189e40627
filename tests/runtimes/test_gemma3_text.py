"""Gemma 3's text-only sizes: logits equal transformers', and images are refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import GEMMA3_TEXT_CASES, FromTorch, hf_model, tiny_artifact, tiny_model
from transformers import AutoTokenizer, PreTrainedModel

from bench.cli import main as bench
from export.__main__ import main
from export.arrays import FloatArray
from export.artifact import load_artifact
from export.checkpoint import check
from export.checkpoint.registry import open_model
from export.errors import UserError
from export.memory import full_context
from export.model import Model
from export.proof import Skipped
from runtimes import RUNTIMES
from runtimes.base import Request, Session
from runtimes.onnxruntime.backend import OnnxBackend
from runtimes.prepare.request import preparer_of
from runtimes.reference import TorchBackend
from runtimes.session.backend import Extend

RELATIVE = {"fp32": 1e-4, "fp16": 5e-3, "int8": 0.1, "int4": 0.8}
CHAT = (
    "{{ bos_token }}{%- for message in messages -%}"
    "{{ '<start_of_turn>' + message['role'] + '\n' }}"
    "{%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}"
    "{{ '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{'<start_of_turn>model\n'}}{%- endif -%}"
)
# Prompts of 60 positions, which are five windows of 12, in one step or in several.
STEPS = {
    "one prefill": [(0, 60)],
    "several steps": [(0, 2), (2, 20), (20, 21), (21, 30), (30, 57), (57, 58), (58, 59), (59, 60)],
    "token by token": [(n, n + 1) for n in range(60)],
}


def prompt_ids() -> np.ndarray:
    return np.array([2, *np.random.default_rng(0).integers(3, 390, 59)], np.int64)


def expected(hf: PreTrainedModel, ids: np.ndarray) -> FloatArray:
    found: FloatArray = hf(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
    return found


def largest_error(backend: OnnxBackend | TorchBackend, wanted: FloatArray, steps: str) -> float:
    """Largest error of the logits after each step, relative to the largest logit."""
    ids = prompt_ids()
    ends = [
        (stop, backend.extend(Extend.sequential(ids[start:stop], start)).copy())
        for start, stop in STEPS[steps]
    ]
    errors = [np.abs(found - wanted[stop - 1]).max() for stop, found in ends]
    return float(max(errors) / np.abs(wanted).max())


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("case", GEMMA3_TEXT_CASES)
def test_reference_logits_equal_transformers(case: str, steps: str) -> None:
    hf = hf_model(case)
    model = tiny_model(hf)
    weights = FromTorch(hf)
    backend = TorchBackend(model, lambda name: torch.from_numpy(weights.read(name)))
    assert largest_error(backend, expected(hf, prompt_ids()), steps) <= 1e-4


@pytest.mark.parametrize("recipe", RELATIVE)
@pytest.mark.parametrize("case", GEMMA3_TEXT_CASES)
def test_onnx_logits_equal_transformers(case: str, recipe: str, tmp_path: Path) -> None:
    hf = hf_model(case)
    artifact = tiny_artifact(tiny_model(hf), "onnx", recipe, tmp_path)
    assert {path.name for path in tmp_path.glob("*.onnx")} == {
        "embed_tokens.onnx",
        "decoder_model_merged.onnx",
    }
    backend, wanted = OnnxBackend(artifact, 1, 256), expected(hf, prompt_ids())
    for steps in STEPS:
        assert largest_error(backend, wanted, steps) <= RELATIVE[recipe]


def test_text_gguf_has_no_mmproj_and_the_references_greedy_tokens(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    model = tiny_model(hf_model("text alone"))
    artifact = tiny_artifact(model, "gguf", "fp32", tmp_path)
    assert list(artifact.manifest.components) == ["decoder"]
    asked = Request("what else is there to be said, at some greater length?", max_tokens=24)
    reference = RUNTIMES["reference"].open_session(model, threads=1)
    session = RUNTIMES["llama_cpp"].open_session(artifact, threads=1)
    assert tokens(session, asked) == tokens(reference, asked)
    session.close()


@pytest.mark.parametrize("case", GEMMA3_TEXT_CASES)
def test_greedy_tokens_equal_transformers(case: str, tmp_path: Path) -> None:
    hf = hf_model(case)
    model = tiny_model(hf)
    artifact = tiny_artifact(model, "onnx", "fp32", tmp_path)
    for question in ("what is it?", "and what else is there to be said, at some greater length?"):
        request = Request(question, max_tokens=24)
        ids = torch.from_numpy(preparer_of(model)(request).ids)[None]
        wanted = hf.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=24,
            eos_token_id=list(model.vlm.stop_token_ids),
            pad_token_id=0,
        )[0, ids.shape[1] :].tolist()
        for runtime, subject in (("reference", model), ("onnxruntime", artifact)):
            session = RUNTIMES[runtime].open_session(subject, threads=1)
            assert tokens(session, request) == wanted


def tokens(session: Session, request: Request) -> list[int]:
    return [event.token for event in session.generate(request) if event.token is not None]


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model(hf_model("text alone"))


def test_image_for_a_text_only_model_is_refused(model: Model, tmp_path: Path) -> None:
    artifact = tiny_artifact(model, "onnx", "int4", tmp_path)
    session = RUNTIMES["onnxruntime"].open_session(artifact, threads=1)
    with pytest.raises(UserError, match=r"^this model is for text alone, .*ask without an image$"):
        tokens(session, Request("what is it?", (Image.new("RGB", (9, 9)),)))


def test_checkpoint_is_exported_proven_and_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hf = hf_model("text alone")
    folder, out = tmp_path / "m", tmp_path / "out"
    hf.save_pretrained(folder)
    for name, content in tiny_model(hf).files.items():
        (folder / name).write_bytes(content)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    model, twin = open_model(str(folder)), FromTorch(hf)
    for name in twin.shapes():
        np.testing.assert_array_equal(model.weights.read(name), twin.read(name))
    arguments = [str(folder), "--target", "onnx", "--recipe", "fp32", "--out", str(out)]
    assert main(arguments) == 0
    manifest = load_artifact(out).manifest
    assert (manifest.vlm, manifest.image, manifest.prompt) == (model.vlm, None, model.prompt)
    checks = manifest.proof.checks
    assert manifest.proof.passed is True
    assert checks.preprocessing.equal is True
    assert checks.features == Skipped("the model takes no images")
    assert checks.logits.mean_kld < 1e-9
    assert checks.greedy.equal == checks.greedy.of > 0
    capsys.readouterr()
    assert bench(["ask", str(out), "what is it?", "--json", "--max-tokens", "5"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["image_s"] is None
    assert 1 <= len(answer["token_ids"]) <= 5
    Image.new("RGB", (9, 9)).save(tmp_path / "image.png")
    assert bench(["ask", str(out), str(tmp_path / "image.png"), "what is it?"]) == 2
    assert capsys.readouterr().err == (
        "bench: this model is for text alone, but 1 images were given; ask without an image\n"
    )


# The released tokenizer is that of the sizes with images; its image token is beyond the vocabulary.
def test_image_token_beyond_the_vocabulary_is_accepted(tmp_path: Path) -> None:
    from tokenizers import AddedToken, Tokenizer

    hf = hf_model("text alone")
    hf.save_pretrained(tmp_path)
    tokenizer = Tokenizer.from_str(tiny_model(hf).files["tokenizer.json"].decode())
    tokenizer.add_special_tokens([AddedToken("<image_soft_token>", special=True)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert open_model(str(tmp_path)).vlm.vision is None
    tokenizer.add_special_tokens([AddedToken("<another>", special=True)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="'<another>' has id 401, but config"):
        open_model(str(tmp_path))


@pytest.mark.parametrize(("name", "values"), [("1b", 999_885_952), ("270m", 268_098_176)])
def test_real_sizes_have_the_published_number_of_parameters(name: str, values: int) -> None:
    model = open_model(f"gemma-3-{name}", weights="synthetic")
    assert sum(int(np.prod(shape)) for shape in model.weights.shapes().values()) == values
    assert full_context(model.vlm, model.image, 1024).tiles == 0


def test_bidirectional_images_without_a_vision_tower_are_refused(model: Model) -> None:
    text = replace(model.vlm.text, bidirectional_images=True)
    with pytest.raises(UserError, match="but no vision tower"):
        check.numbers(replace(model.vlm, text=text), "config.json")
