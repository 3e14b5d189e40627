"""Whatever was asked before, a session answers as one that was opened for the question.

Hypothesis makes sequences of requests; the models are tiny ones of every family, with a backend
whose answers depend on everything it remembers, and one in ONNX Runtime.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hashing_backend import HashingBackend
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from random_checkpoint import save
from tiny_configs import CONFIGS, PREPROCESSORS, RUNNABLE

from export.checkpoint.registry import open_model
from export.errors import UserError
from export.exporter import export_model
from export.model import Model
from export.prompts import Templates
from runtimes.base import Event, Request, Session
from runtimes.onnxruntime.session import open_session
from runtimes.prepare.request import preparer_of
from runtimes.session.loop import GreedySession

PICTURES = tuple(
    Image.new("RGB", size, colour)
    for size, colour in (((32, 32), "red"), ((32, 32), "blue"), ((40, 20), "red"))
)
QUESTIONS = ("what is it?", "what is it not?", "what", "why?", "what is there?", "", "word " * 400)
ASKABLE = QUESTIONS[:-2]
TASKS = ("", "caption", "point", "detect", "gaze")
PLACES = ((), (0.25, 0.5), (0.75, 0.5), (0.0, 0.0, 0.5, 0.5))


@dataclass(frozen=True)
class Turn:
    """Requests to answer at once (one: alone). `stops_after`: events, then the caller goes away;
    `fails_in`: calls of the backend, then one raises."""

    requests: tuple[Request, ...]
    stops_after: int | None = None
    fails_in: int | None = None


@st.composite
def dialogues(
    draw: st.DrawFn, asked: st.SearchStrategy[Request], most: int = 3
) -> tuple[list[Turn], list[Request]]:
    """Turns, and requests to compare then. All are of a few requests, so that they share much."""
    made = draw(st.lists(asked, min_size=2, max_size=3))
    if draw(st.booleans()):  # questions about the same images
        same = {"images": made[0].images, "images_key": made[0].images_key}
        made = [replace(one, **same) for one in made]
    pool = st.sampled_from(made)
    several = st.lists(pool, min_size=1, max_size=most).map(tuple)
    few = st.sampled_from((None, None, 0, 1, 2))
    turns = draw(st.lists(st.builds(Turn, several, few, few), min_size=1, max_size=6))
    return turns, draw(st.lists(pool, min_size=1, max_size=4))


def requests(model: Model) -> st.SearchStrategy[Request]:
    sees = model.vlm.vision is not None
    most = 0 if not sees else 1 if isinstance(model.prompt, Templates) else 2
    images = st.lists(st.sampled_from(PICTURES), max_size=most).map(tuple)
    answer = st.none() | st.lists(st.integers(0, 50), min_size=1, max_size=3).map(tuple)
    own = isinstance(model.prompt, Templates)
    tasks = st.sampled_from(TASKS if own else TASKS[:1])
    places = st.sampled_from(PLACES if own else PLACES[:1])
    return st.builds(
        Request,
        st.sampled_from(ASKABLE * 3 + QUESTIONS),
        images,
        max_tokens=st.integers(1, 3),
        answer=answer,
        arrays=st.booleans(),
        reuse=st.sampled_from((True, True, True, False)),
        task=tasks,
        region=places,
    ).flatmap(lambda made: st.sampled_from((made, replace(made, images_key=_key(made)))))


def _key(request: Request) -> str:
    return " ".join(str(PICTURES.index(image)) for image in request.images)


def said(events: Iterator[Event]) -> list[object]:
    """What an answer says, or the error that it ends with; not what was reused for it."""
    found: list[object] = []
    try:
        for event in events:
            if event.kind == "prefill":
                continue
            features = None if event.features is None else event.features.tobytes()
            found.append((event.kind, event.token, event.region, features))
    except UserError as error:
        found.append(str(error))
    return found


def take(session: Session, turn: Turn) -> None:
    """Lets the session do a turn whose answers do not matter."""
    try:
        if len(turn.requests) > 1 and not any(one.task for one in turn.requests):  # only text
            for count, _ in enumerate(session.generate_each(turn.requests)):
                if count == turn.stops_after:
                    return
        for request in turn.requests:
            for count, _ in enumerate(session.generate(request)):
                if count == turn.stops_after:
                    break
    except UserError:
        return


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("models")
    return {
        name: open_model(str(save(folder / str(number), config, PREPROCESSORS[name])))
        for number, (name, config) in enumerate(CONFIGS.items())
    }


QUIET = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
)


def compare(model: Model, before: list[Turn], request: Request) -> None:
    """Fails unless a session after these turns answers as a fresh one does."""
    described, stop = (model.vlm, model.prompt), model.vlm.stop_token_ids
    backend = HashingBackend(*described)
    session = GreedySession(backend, preparer_of(model), stop)
    for turn in before:
        backend.fails_in = turn.fails_in
        take(session, turn)
    backend.fails_in = None
    fresh = GreedySession(HashingBackend(*described), preparer_of(model), stop)
    assert said(session.generate(request)) == said(fresh.generate(request))


@pytest.mark.parametrize("family", CONFIGS)
def test_a_session_answers_as_a_fresh_one_does(family: str, models: dict[str, Model]) -> None:
    @settings(QUIET, max_examples=60)
    @given(dialogues(requests(models[family])))
    def answers(dialogue: tuple[list[Turn], list[Request]]) -> None:
        before, (request, *_) = dialogue
        compare(models[family], before, request)

    answers()


@pytest.mark.parametrize("family", CONFIGS)
def test_a_prefill_that_fails_leaves_nothing_to_reuse(
    family: str, models: dict[str, Model]
) -> None:
    images = PICTURES[:1] if models[family].vlm.vision else ()
    first, second = (Request(question, images, max_tokens=2) for question in ASKABLE[:2])
    compare(models[family], [Turn((first,)), Turn((second,), fails_in=0)], first)


@pytest.mark.parametrize("family", CONFIGS)
def test_a_batch_after_anything_answers_as_fresh_sessions_do(
    family: str, models: dict[str, Model]
) -> None:
    model = models[family]
    described, stop = (model.vlm, model.prompt), model.vlm.stop_token_ids
    asked = requests(model).filter(lambda one: not one.task and one.question in ASKABLE)

    @settings(QUIET, max_examples=25)
    @given(dialogues(asked))
    def answers(dialogue: tuple[list[Turn], list[Request]]) -> None:
        before, batch = dialogue
        backend = HashingBackend(*described)
        session = GreedySession(backend, preparer_of(model), stop)
        for turn in before:
            take(session, turn)
        together: list[list[Event]] = [[] for _ in batch]
        for number, event in session.generate_each(batch):
            together[number].append(event)
        for request, events in zip(batch, together, strict=True):
            fresh = GreedySession(HashingBackend(*described), preparer_of(model), stop)
            assert said(iter(events)) == said(fresh.generate(request))

    answers()


def test_a_session_of_onnx_runtime_answers_as_a_fresh_one_does(tmp_path: Path) -> None:
    config, preprocessor = RUNNABLE["internvl"], PREPROCESSORS["internvl"]
    folder = save(tmp_path / "model", config, preprocessor)
    artifact = export_model(
        folder, target="onnx", recipe="fp32", out=tmp_path / "onnx", verify=False
    )
    model, session = open_model(str(folder)), open_session(artifact, threads=1)

    @settings(QUIET, max_examples=8)
    @given(dialogues(requests(model), most=1))
    def answers(dialogue: tuple[list[Turn], list[Request]]) -> None:
        before, (request, *_) = dialogue
        for turn in before:
            take(session, turn)
        fresh = open_session(artifact, threads=1)
        asked = replace(request, arrays=False)
        assert said(session.generate(asked)) == said(fresh.generate(asked))
        fresh.close()

    answers()
    session.close()
