"""The runtime `browser` is a session like any other, and says so where Chromium is not."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from export.artifact import Artifact
from export.errors import UserError
from runtimes import RUNTIMES
from runtimes.base import RemoteSession, Request
from runtimes.proof.probes import probes

pytestmark = pytest.mark.browser

SHAPE = probes(64)[0]
REQUEST = Request(SHAPE.question, SHAPE.images, max_tokens=4)


@pytest.fixture(scope="module")
def session(artifact: Artifact) -> Iterator[Any]:
    session = RUNTIMES["browser"].open_session(artifact, threads=1)
    yield session
    session.close()


def test_it_has_the_logits_and_the_forced_tokens_of_an_answer(
    session: RemoteSession, artifact: Artifact
) -> None:
    # A stop token among them does not end the answer.
    asked = replace(REQUEST, answer=(5, 415, 7), arrays=True)
    here = RUNTIMES["onnxruntime"].open_session(artifact, threads=1)
    wanted = [event for event in here.generate(asked) if event.kind == "token"]
    found = [event for event in session.generate(asked) if event.kind == "token"]
    here.close()
    assert [event.token for event in found] == [5, 415, 7]
    for event, expected in zip(found, wanted, strict=True):
        assert event.logits is not None
        assert expected.logits is not None
        assert np.abs(event.logits - expected.logits).max() < 1e-4


def test_it_answers_a_prompt_of_given_ids(session: RemoteSession, artifact: Artifact) -> None:
    asked = Request(ids=tuple(range(40, 60)), answer=(1, 2, 3))
    events = list(session.generate(asked))
    assert [event.kind for event in events] == ["prepare", "prefill", "token", "token", "token"]
    assert [event.positions for event in events[:2]] == [20, 20]
    assert all(event.seconds is not None for event in events)


def test_an_answer_that_is_left_early_does_not_stop_the_next(session: RemoteSession) -> None:
    whole = [event.token for event in session.generate(REQUEST)]
    started = session.generate(REQUEST)
    assert next(started).kind == "prepare"
    assert next(started).kind == "image"
    started.close()
    assert [event.token for event in session.generate(REQUEST)] == whole


def test_a_page_cannot_reach_another_server(session: Any) -> None:
    script = "fetch('http://127.0.0.1:9/').then(() => 'reached', (error) => error.name)"
    assert session.page.evaluate(script) == "TypeError"
    blocked = """new Promise((done) => {
      document.addEventListener('securitypolicyviolation', (event) => done(event.blockedURI));
      fetch('https://example.com/').catch(() => {});
    })"""
    assert session.page.evaluate(blocked).startswith("https://example.com")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "detect"}, "no task 'detect'"),
        ({"features": np.zeros((4, 64), np.float32)}, "leave out their features"),
    ],
)
def test_what_transformers_js_cannot_do_is_refused(
    session: RemoteSession, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        list(session.generate(replace(REQUEST, **changes)))
