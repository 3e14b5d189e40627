"""LiteRT-LM's engine, which apps on phones use, opens what we export. make litert."""

from collections.abc import Callable

import pytest
from answering import QUESTIONS
from PIL import Image

from export.artifact import Artifact
from export.checkpoint.registry import open_model
from export.errors import UserError
from runtimes import RUNTIMES
from runtimes.base import Request, Session
from runtimes.proof.probes import probes

pytestmark = pytest.mark.litert
Made = Callable[[str, str], Artifact]


def sizes(images: tuple[Image.Image, ...]) -> list[tuple[int, int]]:
    return [image.size for image in images]


TILE = 64
# Of a tile's size: the engine resizes with another filter.
PICTURES = [probe.images for probe in probes(TILE) if set(sizes(probe.images)) == {(TILE, TILE)}]
ASKED = (*PICTURES, PICTURES[0] + PICTURES[1], ())


def asked() -> list[Request]:
    return [Request(question, images) for question in QUESTIONS for images in ASKED]


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
    assert len(set(found)) > 3


def test_what_the_engine_cannot_give_is_refused(made: Made) -> None:
    engine = RUNTIMES["litert_lm"].open_session(made("tiny-smolvlm", "fp32"), threads=1)
    with pytest.raises(UserError, match="chooses its tokens itself"):
        list(engine.generate(Request("what is it?", arrays=True)))
