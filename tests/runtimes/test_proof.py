"""The proof passes faithful artifacts and names the failed check of others."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tiny_models import IMAGE_TOKEN, hf_model, tiny_artifact, tiny_model

from export.artifact import Artifact
from export.model import Model
from runtimes.base import Request
from runtimes.proof.ladder import prove
from runtimes.reference import ReferenceScorer


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model(hf_model("grouped heads"))


@pytest.mark.parametrize("recipe", ["fp32", "fp16"])
def test_faithful_artifact_passes(model: Model, recipe: str, tmp_path: Path) -> None:
    proof = prove(model, tiny_artifact(model, "onnx", recipe, tmp_path), threads=1)
    assert proof.passed is True
    assert proof.failures == ()
    assert proof.checks.tensors.explained == 84
    assert proof.checks.features.cosine > 0.9999
    assert proof.checks.logits.mean_kld < 1e-4


def test_fewer_bits_diverge_more(model: Model, tmp_path: Path) -> None:
    found = []
    for recipe in ("fp32", "int8", "int4"):
        (tmp_path / recipe).mkdir()
        artifact = tiny_artifact(model, "onnx", recipe, tmp_path / recipe)
        found.append(prove(model, artifact, threads=1).checks.logits.mean_kld)
    assert found[0] < found[1] < found[2]


def overwrite(artifact: Artifact, name: str) -> None:
    """Overwrite some bytes of a tensor, without changing the file's size."""
    path = artifact.path / name
    content = bytearray(path.read_bytes())
    content[8192:16384] = content[16384:24576]
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "complaint"),
    [("vision_encoder.onnx_data", "vision features"), ("decoder_model_merged.onnx_data", "logits")],
)
def test_damaged_artifact_fails(model: Model, file: str, complaint: str, tmp_path: Path) -> None:
    artifact = tiny_artifact(model, "onnx", "fp32", tmp_path)
    overwrite(artifact, file)
    proof = prove(model, artifact, threads=1)
    assert proof.passed is False
    assert any(complaint in failure for failure in proof.failures)


def test_changed_prompt_fails(model: Model, tmp_path: Path) -> None:
    artifact = tiny_artifact(model, "onnx", "fp32", tmp_path)
    prompt = replace(model.prompt, with_images="User:{images} {question}\nAssistant:")
    other = replace(artifact, manifest=replace(artifact.manifest, prompt=prompt))
    assert prove(model, other, threads=1).passed is False


def test_rounding_of_random_weights_is_not_judged(model: Model, tmp_path: Path) -> None:
    class Random(type(model.weights)):  # type: ignore[misc]
        synthetic = True

    weights = Random(hf_model("grouped heads"))
    random = replace(model, weights=weights)
    proof = prove(random, tiny_artifact(random, "onnx", "int4", tmp_path), threads=1)
    assert proof.failures == ()
    assert proof.passed is None
    assert "weights are random" in proof.unjudged


def test_image_token_in_an_answer_is_text(model: Model, tmp_path: Path) -> None:
    scorer = ReferenceScorer(model)
    image = Image.new("RGB", (32, 32), "red")
    request = Request("what?", (image,), answer=(5, IMAGE_TOKEN, 6))
    assert scorer.score(request, scorer.features(request)).shape == (3, model.vlm.text.vocab)
