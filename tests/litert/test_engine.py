"""LiteRT-LM's engine, which apps on phones use, opens what we export. make litert."""

import pytest
from built_artifacts import Made

from bench.tasks.generated import questions
from export.checkpoint.registry import open_model
from export.errors import UserError
from runtimes import RUNTIMES
from runtimes.base import Request, Session

pytestmark = pytest.mark.litert


def asked() -> list[Request]:
    """Questions about pictures of a tile's size: the engine resizes with another filter."""
    drawn = [
        Request(question.turns[0].text, (question.pictures[0].open(),))
        for task in ("counting", "grid")
        for question in map(questions(task).question, range(8))
    ]
    two = Request(drawn[0].question, drawn[0].images + drawn[1].images)
    return [*drawn, two, Request("what is red?")]


def answer(session: Session, request: Request, stop: tuple[int, ...]) -> tuple[int | None, ...]:
    tokens = (event.token for event in session.generate(request) if event.kind == "token")
    return tuple(token for token in tokens if token not in stop)


@pytest.mark.parametrize("model", ["tiny-smolvlm", "tiny-gemma3"])
def test_litert_lm_gives_the_references_answers(model: str, made: Made) -> None:
    artifact, checkpoint = made(model, "fp32"), open_model(model)
    stop = checkpoint.vlm.stop_token_ids
    engine, reference = (
        RUNTIMES[name].open_session(subject, threads=1)
        for name, subject in (("litert_lm", artifact), ("reference", checkpoint))
    )
    found = [answer(engine, request, stop) for request in asked()]
    assert found == [answer(reference, request, stop) for request in asked()]
    assert len(set(found)) > 9


def test_what_the_engine_cannot_give_is_refused(made: Made) -> None:
    engine = RUNTIMES["litert_lm"].open_session(made("tiny-smolvlm", "fp32"), threads=1)
    with pytest.raises(UserError, match="chooses its tokens itself"):
        list(engine.generate(Request("what is it?", arrays=True)))
