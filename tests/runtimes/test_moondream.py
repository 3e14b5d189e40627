"""Moondream answers as its author's own code does: golden outputs of tests/golden."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_moondream as tiny
from tiny_models import tiny_artifact

from export.artifact import Artifact
from export.families.moondream import MOONDREAM
from export.model import Model
from runtimes import onnxruntime_, reference
from runtimes.base import Event, FloatArray, Session
from runtimes.image import pixels
from runtimes.prepare import preparer_of

GOLDEN = Path(__file__).parents[1] / "golden"
ROWS, VOCAB = slice(None, None, 81), slice(7, None, 400)  # as tests/golden/make_moondream.py keeps
RELATIVE = 1e-4
CUTS = {f"{rows}x{cols}": case for (rows, cols), case in tiny.CUTS.items()}
Open = Callable[[Model, Artifact, int], Session]


def in_torch(model: Model, artifact: Artifact, most: int) -> Session:
    model = replace(model, image=model.image.within(most + 1))
    return reference.open_session(model, threads=1)


def in_onnx(model: Model, artifact: Artifact, most: int) -> Session:
    manifest = replace(artifact.manifest, image=model.image.within(most + 1))
    return onnxruntime_.open_session(replace(artifact, manifest=manifest), threads=1)


SESSIONS: Mapping[str, Open] = {"torch": in_torch, "onnx": in_onnx}


class Golden:
    def __init__(self, tokenizer: str) -> None:
        self.facts: dict[str, Any] = json.loads(
            (GOLDEN / f"moondream-{tokenizer}.json").read_text()
        )
        self.arrays: Mapping[str, FloatArray] = np.load(GOLDEN / f"moondream-{tokenizer}.npz")


@pytest.fixture(scope="module", params=tiny.TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(tokenizer: str) -> Model:
    return tiny.tiny_moondream(tokenizer)


@pytest.fixture(scope="module")
def golden(tokenizer: str) -> Golden:
    return Golden(tokenizer)


@pytest.fixture(scope="module")
def artifact(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_artifact(model, "onnx", "fp32", tmp_path_factory.mktemp("artifact"))


@pytest.fixture(scope="module", params=SESSIONS)
def opened(
    request: pytest.FixtureRequest, model: Model, artifact: Artifact
) -> Iterator[Callable[[int], Session]]:
    """Sessions of one runtime by the most crops they cut."""
    made: dict[int, Session] = {}

    def session(most: int) -> Session:
        if most not in made:
            made[most] = SESSIONS[request.param](model, artifact, most)
        return made[most]

    yield session
    for one in made.values():
        one.close()


def close_to(found: FloatArray, wanted: FloatArray) -> bool:
    return bool(np.abs(found - wanted).max() <= RELATIVE * np.abs(wanted).max())


def check_text(events: list[Event], wanted: Any, logits: FloatArray) -> None:
    tokens = [event for event in events if event.kind == "token"]
    assert [event.token for event in tokens] == wanted["tokens"]
    for event, row in zip(tokens, logits, strict=False):
        assert event.logits is not None
        assert close_to(event.logits[VOCAB], row)


@pytest.mark.parametrize("cut", CUTS)
def test_answers_are_those_of_the_authors_code(
    cut: str, golden: Golden, opened: Callable[[int], Session]
) -> None:
    size, most = CUTS[cut]
    image, session = tiny.noise(*size), opened(most)
    for task, asked in tiny.REQUESTS.items():
        wanted, logits = golden.facts[f"{cut}/{task}"], golden.arrays[f"{cut}/{task}/logits"]
        request = replace(asked, images=(image,), arrays=True)
        events = []
        for event in session.generate(request):
            events.append(event)
            if sum(one.kind == "place" for one in events) == len(wanted["places"]) > 0:
                break
        shown = next(event.features for event in events if event.kind == "image")
        assert shown is not None
        assert close_to(shown[ROWS], golden.arrays[f"{cut}/features"])
        places = [event.place for event in events if event.kind == "place"]
        np.testing.assert_allclose(places, wanted["places"], atol=1e-6)
        check_text(events, wanted, logits)


def test_a_question_without_an_image_is_answered_as_by_the_authors_code(
    tokenizer: str, golden: Golden, opened: Callable[[int], Session]
) -> None:
    events = list(opened(12).generate(replace(tiny.REQUESTS["query"], arrays=True)))
    if tokenizer == "starmie":  # the author's older code has none
        check_text(events, golden.facts["no image/query"], golden.arrays["no image/query/logits"])
    assert [event.kind for event in events[:2]] == ["prepare", "prefill"]


@pytest.mark.parametrize("task", tiny.REQUESTS)
def test_prompts_have_the_authors_ids(task: str, model: Model, golden: Golden) -> None:
    image = tiny.noise(100, 80)
    prepared = preparer_of(model)(replace(tiny.REQUESTS[task], images=(image,)))
    first = [model.vlm.bos_token_id, *[model.vlm.image_token_id] * 729]
    assert list(prepared.ids[:730]) == first
    place = range(prepared.place_at, prepared.place_at + (2 if task == "gaze" else 0))
    rest = [int(id_) for n, id_ in enumerate(prepared.ids) if n >= 730 and n not in place]
    assert rest == golden.facts[f"1x1/{task}"]["ids"]


RECIPE = MOONDREAM.image(MOONDREAM.read({}), {})
IMAGES = {f"{w}x{h}": tiny.noise(w, h) for w, h in tiny.SIZES}
IMAGES |= {mode: tiny.image_of(mode) for mode in tiny.MODES}


@pytest.mark.parametrize("name", IMAGES)
def test_crops_are_those_of_the_authors_code(name: str) -> None:
    (rows, cols), digest = Golden("legacy").facts["crops"][name]
    found = pixels(IMAGES[name], RECIPE)
    assert (found.rows, found.cols) == (rows, cols)
    levels = np.rint((found.values * 0.5 + 0.5) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    overview, locals_ = levels[-1:], levels[:-1] if len(levels) > 1 else levels
    theirs = np.concatenate([overview, locals_])
    assert hashlib.sha256(theirs.tobytes()).hexdigest() == digest
