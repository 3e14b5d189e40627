"""The fake session behaves as runtimes.base says, so that tests may rely on it."""

import pytest
from PIL import Image

from export.errors import UserError
from runtimes.base import Event, Request
from runtimes.fake import FakeSession


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def test_events_come_in_the_order_of_the_protocol() -> None:
    request = Request("what?", (Image.new("RGB", (2, 2)),))
    events = list(FakeSession({}).generate(request))
    assert kinds(events) == ["prepare", "image", "prefill", "token", "token", "token"]
    assert [event.token for event in events[3:]] == [1, 2, 0]
    assert [event.positions for event in events[:3]] == [12, 4, 12]


def test_ids_and_forced_answers_set_the_lengths() -> None:
    events = list(FakeSession({}).generate(Request(ids=(1, 2, 3), answer=(7, 8), arrays=True)))
    assert kinds(events) == ["prepare", "prefill", "token", "token"]
    assert events[0].positions == 3
    assert [event.token for event in events[2:]] == [7, 8]
    chosen = [int(event.logits.argmax()) for event in events[2:] if event.logits is not None]
    assert chosen == [1, 2]  # its own choice, whatever it was forced to


def test_answers_are_scripted_by_question_and_bounded() -> None:
    session = FakeSession({"answers": {"a": (5, 6, 7, 0)}})
    assert [e.token for e in session.generate(Request("a", max_tokens=2)) if e.token] == [5, 6]


def test_scripted_refusal_is_a_user_error() -> None:
    with pytest.raises(UserError, match="as told"):
        list(FakeSession({"prefill": {"refuse": "as told"}}).generate(Request("a")))
