"""The runtime that loads either tower or decoder answers like the one that loads both."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import tiny_moondream as tiny
from tiny_models import tiny_artifact

from export.artifact import Artifact
from runtimes import RUNTIMES
from runtimes.base import Event, Request, Session
from runtimes.onnxruntime.backend import OnnxBackend
from runtimes.onnxruntime.lean import LeanBackend
from runtimes.onnxruntime.tower import OnnxTower
from runtimes.prepare.request import preparer_of
from runtimes.session.backend import Extend

FIRST, SECOND = tiny.noise(60, 40), tiny.noise(40, 60)
ASKED = [
    replace(tiny.REQUESTS[task], images=(image,))
    for task, image in (
        ("query", FIRST),
        ("detect", FIRST),
        ("query", SECOND),
        ("gaze", FIRST),
        ("query", FIRST),
    )
]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    model = tiny.tiny_moondream("starmie")
    return tiny_artifact(model, "onnx", "fp32", tmp_path_factory.mktemp("artifact"))


@pytest.fixture
def sessions(artifact: Artifact) -> Iterator[list[Session]]:
    names = ("onnxruntime", "onnxruntime_lean")
    opened = [RUNTIMES[name].open_session(artifact, threads=1) for name in names]
    yield opened
    for session in opened:
        session.close()


def answer(session: Session, request: Request) -> list[tuple[int | None, tuple[float, ...]]]:
    events: list[Event] = []
    for event in session.generate(request):
        events += [event] if event.kind in ("token", "place") else []
        if len(events) == 6:
            break
    return [(event.token, event.region) for event in events]


def test_answers_equal_the_full_runtime_in_any_order(sessions: list[Session]) -> None:
    for request in [*ASKED, tiny.REQUESTS["query"], *ASKED[::-1]]:
        both, lean = (answer(session, request) for session in sessions)
        assert lean == both


def test_interrupted_request_leaves_no_stale_cache(
    sessions: list[Session],
) -> None:
    expected = answer(sessions[0], ASKED[0])
    lean = sessions[1]
    assert answer(lean, ASKED[0]) == expected
    for event in lean.generate(ASKED[2]):  # interrupted after the other image
        if event.kind == "image":
            break
    assert answer(lean, ASKED[0]) == expected


def test_only_one_part_is_loaded_at_a_time(artifact: Artifact) -> None:
    backend = LeanBackend(artifact, 1, 1024)
    prepared = preparer_of(artifact)(ASKED[0])
    loaded = [type(backend._loaded)]
    features = backend.encode(prepared.images)
    loaded.append(type(backend._loaded))
    backend.extend(Extend.sequential(prepared.ids, 0, features))
    loaded.append(type(backend._loaded))
    backend.encode(prepared.images)
    loaded.append(type(backend._loaded))
    backend.close()
    assert loaded == [OnnxTower, OnnxTower, OnnxBackend, OnnxTower]
