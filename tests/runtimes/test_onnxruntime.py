"""ONNX Runtime sessions answer like the reference, with and without reuse."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import CASES, hf_model, tiny_artifact, tiny_model

from export.errors import UserError
from export.model import Model
from runtimes import RUNTIMES
from runtimes.base import Event, Request, Session

IMAGE = Image.effect_mandelbrot((50, 30), (-2, -1.5, 1, 1.5), 100)
REQUESTS = {
    "no image": Request("what is it?", max_tokens=12),
    "one cut image": Request("what is it?", (IMAGE,), max_tokens=12),
    "two images": Request("same?", (IMAGE, IMAGE.rotate(90, expand=True)), max_tokens=12),
}


def tokens(session: Session, request: Request) -> list[int]:
    return [event.token for event in session.generate(request) if event.token is not None]


def sessions(model: Model, folder: Path) -> tuple[Session, Session]:
    artifact = tiny_artifact(model, "onnx", "fp32", folder)
    opened = RUNTIMES["onnxruntime"].open_session(artifact, threads=1)
    return RUNTIMES["reference"].open_session(model, threads=1), opened


@pytest.mark.parametrize("case", CASES)
def test_greedy_tokens_equal_the_reference(case: str, tmp_path: Path) -> None:
    reference, session = sessions(tiny_model(hf_model(case)), tmp_path)
    for request in REQUESTS.values():
        assert tokens(session, request) == tokens(reference, request)


def test_reuse_changes_no_answer(tmp_path: Path) -> None:
    _, session = sessions(tiny_model(hf_model("grouped heads")), tmp_path)
    questions = ["what is it?", "what colour is it?", "what is it?"]
    fresh = [Request(q, (IMAGE,), max_tokens=8, reuse=False) for q in questions]
    expected = [tokens(session, request) for request in fresh]
    reusing = [Request(q, (IMAGE,), max_tokens=8) for q in questions]
    assert [tokens(session, request) for request in reusing] == expected


def events(session: Session, request: Request) -> dict[str, Event]:
    return {event.kind: event for event in session.generate(request)}


def test_second_question_reuses_image_features_and_prompt_prefix(tmp_path: Path) -> None:
    _, session = sessions(tiny_model(hf_model("grouped heads")), tmp_path)
    first = events(session, Request("what is it?", (IMAGE,), max_tokens=2))
    assert not first["image"].reused
    assert first["prefill"].positions == first["prepare"].positions
    second = events(session, Request("what else?", (IMAGE,), max_tokens=2))
    assert second["image"].reused
    assert second["prefill"].reused
    assert second["prefill"].positions < 40 < second["prepare"].positions
    other = events(session, Request("what else?", (IMAGE.rotate(180),), max_tokens=2))
    assert not other["image"].reused
    assert other["prefill"].positions == other["prepare"].positions


def test_forced_answer_is_decoded_as_given(tmp_path: Path) -> None:
    reference, session = sessions(tiny_model(hf_model("grouped heads")), tmp_path)
    request = Request("what is it?", (IMAGE,), answer=(9, 2, 9, 30), arrays=True)
    assert tokens(session, request) == [9, 2, 9, 30]
    for one, other in zip(reference.generate(request), session.generate(request), strict=True):
        if one.logits is not None and other.logits is not None:
            assert np.allclose(one.logits, other.logits, atol=1e-4 * np.abs(one.logits).max())


def test_answer_that_does_not_fit_the_context_is_refused(tmp_path: Path) -> None:
    _, session = sessions(tiny_model(hf_model("grouped heads")), tmp_path)
    with pytest.raises(UserError, match="the context holds 256"):
        list(session.generate(Request("hello", max_tokens=300)))
