"""ExecuTorch's C++ MultimodalRunner, the class of apps on phones, opens what we export."""

from collections.abc import Sequence

import pytest
from answering import QUESTIONS
from built_artifacts import Made

from export.checkpoint.registry import open_model
from export.errors import UserError
from runtimes import RUNTIMES
from runtimes.base import Request, Session
from runtimes.prepare.request import Preparer, preparer_of
from runtimes.proof.probes import probes

pytestmark = pytest.mark.executorch
ASKED = [
    *(Request(question, probe.images) for question in QUESTIONS for probe in probes(64)),
    Request("what is red?"),
]


def answer(session: Session, request: Request) -> tuple[int | None, ...]:
    return tuple(event.token for event in session.generate(request) if event.kind == "token")


def of_characters(preparer: Preparer, ids: Sequence[int | None]) -> bool:
    """Whether no token is a part of a character, which the runner cannot give Python."""
    return all("\ufffd" not in preparer.text([token]) for token in ids if token is not None)


def test_multimodal_runner_gives_the_references_answers(made: Made) -> None:
    artifact, checkpoint = made("tiny-smolvlm", "fp32"), open_model("tiny-smolvlm")
    reference = RUNTIMES["reference"].open_session(checkpoint, threads=1)
    wanted = [answer(reference, request) for request in ASKED]
    whole = [of_characters(preparer_of(checkpoint), ids) for ids in wanted]
    assert sum(whole) > 10
    runner = RUNTIMES["executorch_runner"].open_session(artifact, threads=1)
    found = [answer(runner, r) if able else () for r, able in zip(ASKED, whole, strict=True)]
    assert found == [ids if able else () for ids, able in zip(wanted, whole, strict=True)]
    assert len(set(found)) > 5
    assert not all(whole)
    with pytest.raises(UserError, match="a part of a character"):
        answer(runner, ASKED[whole.index(False)])


@pytest.mark.parametrize(
    ("model", "lacks"),
    [
        ("tiny-gemma3", "images that attend to later positions"),
        ("tiny-qwen2.5-vl", "positions on three axes and images of any size"),
        ("tiny-moondream", "images that attend to later positions"),
    ],
)
def test_models_that_the_runner_has_no_inputs_for_are_refused(
    model: str, lacks: str, made: Made
) -> None:
    artifact = made(model, "fp32")
    with pytest.raises(UserError, match=f"MultimodalRunner has no input for {lacks}; use"):
        RUNTIMES["executorch_runner"].open_session(artifact, threads=1)
