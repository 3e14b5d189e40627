"""Every bundled model answers in llama.cpp like the reference, with both vision towers."""

from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny_artifact

from export.checkpoint.registry import open_model
from runtimes.base import Request
from runtimes.llama_cpp.session import LlamaBackend
from runtimes.prepare.request import preparer_of
from runtimes.proof.ladder import prove
from runtimes.proof.probes import probes
from runtimes.session.loop import GreedySession

pytest.importorskip("llama_cpp")


@pytest.mark.parametrize("layout", ["onnx-vision", "native"])
@pytest.mark.parametrize("name", ["tiny-qwen2.5-vl", "tiny-gemma3"])
def test_half_precision_answers_equal_the_reference(name: str, layout: str, tmp_path: Path) -> None:
    """Covers three-axis positions, bidirectional images, and images that mtmd would rescale."""
    model = open_model(name)
    proof = prove(model, tiny_artifact(model, "gguf", "fp16", tmp_path, layout), threads=1)
    assert proof.passed is True
    assert proof.checks.logits.mean_kld <= 1e-4
    assert proof.checks.greedy.equal == proof.checks.greedy.of > 0
    assert proof.checks.features.max_error <= (1e-5 if layout == "onnx-vision" else 2e-3)


@pytest.mark.parametrize("name", ["tiny-qwen2.5-vl", "tiny-gemma3"])
def test_next_question_reuses_the_image_and_keeps_its_answer(name: str, tmp_path: Path) -> None:
    model = open_model(name)
    artifact = tiny_artifact(model, "gguf", "fp32", tmp_path, "onnx-vision")
    backend = LlamaBackend(artifact, 1, 512, cache_bits=32)
    session = GreedySession(backend, preparer_of(artifact), model.vlm.stop_token_ids)
    image = probes(224)[2].images
    for question in ("what is it?", "what colour is it?", "what is it?"):
        request = Request(question, image, max_tokens=6)
        events = list(session.generate(request))
        fresh = list(session.generate(Request(question, image, max_tokens=6, reuse=False)))
        found, wanted = ([e.token for e in some if e.kind == "token"] for some in (events, fresh))
        assert found == wanted
    assert next(event for event in events if event.kind == "prefill").reused
    session.close()


@pytest.mark.parametrize("name", ["tiny-qwen2.5-vl", "tiny-gemma3"])
def test_repeated_prompt_that_ends_in_an_image_has_the_same_logits(
    name: str, tmp_path: Path
) -> None:
    """Qwen's image tokens share a time position, so the last one cannot be removed on its own."""
    model = open_model(name)
    artifact = tiny_artifact(model, "gguf", "fp32", tmp_path, "onnx-vision")
    preparer = preparer_of(artifact)
    session = GreedySession(LlamaBackend(artifact, 1, 512, cache_bits=32), preparer, ())
    images = probes(224)[2].images
    ids = preparer(Request("what is it?", images)).ids
    end = int(np.flatnonzero(ids == model.vlm.image_token_id)[-1]) + 1
    request = Request(images=images, ids=tuple(ids[:end].tolist()), answer=(5,), arrays=True)
    first, again = (
        next(event.logits for event in session.generate(request) if event.kind == "token")
        for _ in range(2)
    )
    np.testing.assert_allclose(again, first, atol=1e-4)
    session.close()
