"""Moondream in llama.cpp: crops and regions with the ONNX tower, one crop with mmproj."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tiny_moondream as tiny
from gguf import GGUFReader
from PIL import Image
from tiny_models import tiny_artifact

from export.__main__ import main as export_main
from export.artifact import Artifact, load_artifact
from export.errors import UserError
from export.model import Model
from export.quantize.recipe import RECIPES
from export.targets import TARGETS
from runtimes import reference
from runtimes.base import Request, Session
from runtimes.llama_cpp.session import open_session
from runtimes.proof.ladder import prove

pytest.importorskip("llama_cpp")

IMAGES = {f"{rows}x{cols}": tiny.noise(*size) for (rows, cols), (size, _) in tiny.CUTS.items()}
Answer = list[tuple[int | None, tuple[float, ...]]]


@pytest.fixture(scope="module", params=tiny.TOKENIZERS)
def model(request: pytest.FixtureRequest) -> Model:
    return tiny.tiny_moondream(str(request.param))


@pytest.fixture(scope="module")
def artifact(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("artifact")
    return tiny_artifact(model, "gguf", "fp16", folder, "onnx-vision")


@pytest.fixture(scope="module")
def session(artifact: Artifact) -> Iterator[Session]:
    opened = open_session(artifact, threads=1)
    yield opened
    opened.close()


def answer(session: Session, request: Request) -> Answer:
    """The first few tokens and regions: random heads would continue to the limit."""
    events = (event for event in session.generate(request) if event.kind in ("token", "place"))
    return [(event.token, event.region) for event in islice(events, tiny.MOST + 2)]


@pytest.mark.parametrize("cut", IMAGES)
def test_answers_and_regions_equal_the_reference(cut: str, model: Model, session: Session) -> None:
    torch = reference.open_session(model, threads=1)
    for asked in tiny.REQUESTS.values():
        request = replace(asked, images=(IMAGES[cut],))
        assert answer(session, request) == answer(torch, request)


def test_answer_without_an_image_equals_the_reference(model: Model, session: Session) -> None:
    torch = reference.open_session(model, threads=1)
    assert answer(session, tiny.REQUESTS["query"]) == answer(torch, tiny.REQUESTS["query"])


def test_half_precision_passes_the_proof_with_regions(tmp_path: Path) -> None:
    model = tiny.tiny_moondream("legacy")
    proof = prove(model, tiny_artifact(model, "gguf", "fp16", tmp_path, "onnx-vision"), threads=1)
    assert proof.passed is True
    checks = proof.checks
    assert checks.logits.mean_kld <= 1e-4
    assert checks.greedy.equal == checks.greedy.of > 0
    assert checks.places.differences == {"detect": 0, "point": 0, "gaze": 0}


def test_only_a_question_about_the_same_image_reuses_the_cache(session: Session) -> None:
    request = replace(tiny.REQUESTS["query"], images=(IMAGES["1x1"],))
    first, other = answer(session, request), replace(request, images=(IMAGES["2x3"],))
    different = answer(session, other)
    events = list(session.generate(replace(other, question="and 7?")))
    assert next(event for event in events if event.kind == "prefill").positions < 730
    assert answer(session, replace(request, reuse=False)) == answer(session, request) == first
    assert different != first


def test_mmproj_answers_from_one_crop_equal_the_reference(tmp_path: Path) -> None:
    model = tiny.tiny_moondream("legacy")
    whole = replace(model, image=model.image.within(1))
    proof = prove(whole, tiny_artifact(whole, "gguf", "fp16", tmp_path), threads=1)
    assert proof.passed is True
    assert proof.checks.logits.mean_kld <= 1e-4
    assert proof.checks.features.max_error <= 5e-3
    assert proof.checks.places is None


def test_mmproj_refuses_crops_and_regions(model: Model, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--layout onnx-vision, or with --max-tiles 1"):
        tiny_artifact(model, "gguf", "fp16", tmp_path)
    whole = replace(model, image=model.image.within(1))
    written = TARGETS["gguf"].write(whole, RECIPES["fp16"], tmp_path, "native")
    left_out = {f.tensor for f in written.quantization.fallbacks if f.got == "nothing"}
    assert left_out == {name for name in model.weights.shapes() if name.startswith("region.")}
    opened = open_session(tiny_artifact(whole, "gguf", "fp16", tmp_path), threads=1)
    with pytest.raises(UserError, match="no region heads"):
        list(opened.generate(replace(tiny.REQUESTS["point"], images=(IMAGES["1x1"],))))
    opened.close()


def test_mmproj_has_the_folded_projector_and_the_decoder_adds_bos(
    model: Model, tmp_path: Path
) -> None:
    whole = replace(model, image=model.image.within(1))
    files = tiny_artifact(whole, "gguf", "fp32", tmp_path).manifest.components
    vision, decoder = (GGUFReader(tmp_path / files[part][0]) for part in ("vision", "decoder"))
    folded = next(tensor.data for tensor in vision.tensors if tensor.name == "mm.0.weight")
    left, right = np.split(model.weights.read("mm.0.weight"), 2, axis=1)
    np.testing.assert_array_equal(folded, left + right)
    assert vision.get_field("clip.projector_type").contents() == "janus_pro"
    assert decoder.get_field("general.architecture").contents() == "phi2"
    assert decoder.get_field("tokenizer.ggml.add_bos_token").contents() is True
    assert decoder.get_field("tokenizer.ggml.bos_token_id").contents() == model.vlm.bos_token_id


def test_default_layout_of_moondream_keeps_crops_and_regions(tmp_path: Path) -> None:
    folder, out = tmp_path / "tiny", tmp_path / "out"
    folder.mkdir()
    words = [str(tiny.save(folder)), "--target", "gguf", "--recipe", "int8", "--out", str(out)]
    assert export_main(words) == 0
    manifest = load_artifact(out).manifest
    assert manifest.layout == "onnx-vision"
    assert set(manifest.components) == {"decoder", "vision", "projection", "region"}
    assert manifest.proof is not None
    assert manifest.proof.passed is True


def test_transparent_image_is_prepared_as_by_the_reference(model: Model, session: Session) -> None:
    picture: Image.Image = tiny.image_of("RGBA")
    torch = reference.open_session(model, threads=1)
    request = replace(tiny.REQUESTS["caption"], images=(picture,))
    assert answer(session, request) == answer(torch, request)
