"""The cards of the tiny twins, in part: the first test items through the float32 ONNX artifact."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import tiny_artifact

from bench.tasks.scenes import scenes
from export.registry import open_model
from models.train import easy_vqa
from models.train.measure import Asker, is_inside, overlaps
from runtimes import onnxruntime_

ITEMS = 200
MARGIN = 0.05  # by which 200 items may lie below the card's share


@dataclass(frozen=True)
class Twin:
    """A bundled model, and the shares of right answers that its card gives."""

    name: str
    words: dict[str, float]
    places: dict[str, float]


TWINS = (
    Twin("tiny-gemma3", {"easy-vqa": 0.99}, {}),
    Twin("tiny-moondream", {"easy-vqa": 0.0}, {"point": 0.0, "detect": 0.0}),
    Twin("tiny-qwen2.5-vl", {"easy-vqa": 0.99}, {}),
    Twin("tiny-smolvlm", {"easy-vqa": 0.99}, {}),
)


@pytest.fixture(scope="module", params=TWINS, ids=lambda twin: twin.name)
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Twin, Asker]]:
    """A twin, and what asks its float32 ONNX artifact."""
    model = open_model(request.param.name)
    artifact = tiny_artifact(model, "onnx", "fp32", tmp_path_factory.mktemp("twin"))
    session = onnxruntime_.open_session(artifact, threads=1)
    yield request.param, Asker(model, session)
    session.close()


def asked(kind: str) -> Iterator[tuple[Image.Image, str, str]]:
    """Images, questions and answers of the test split, in its order."""
    if kind == "easy-vqa":
        for example in easy_vqa.examples("test"):
            for question in example.questions:
                yield Image.fromarray(example.pixels), question.text, question.answer
    else:
        for scene in scenes(kind, "test", ITEMS):
            yield scene.image, scene.asked[0].question, scene.asked[0].answer


def test_the_first_test_questions_are_answered_as_well_as_the_card_says(
    opened: tuple[Twin, Asker],
) -> None:
    twin, asker = opened
    for kind, share in twin.words.items():
        right = [
            asker.words(image, question)[0] == answer
            for image, question, answer in islice(asked(kind), ITEMS)
        ]
        assert np.mean(right) >= share - MARGIN, kind


def test_the_first_test_things_are_placed_as_well_as_the_card_says(
    opened: tuple[Twin, Asker],
) -> None:
    twin, asker = opened
    located = [
        (scene.image, one.subject, one.places[0])
        for scene in scenes("boxes", "test", ITEMS)
        for one in scene.asked
    ][:ITEMS]
    for task, share in twin.places.items():
        judge = is_inside if task == "point" else overlaps
        found = [(asker.places(image, task, name), box) for image, name, box in located]
        right = [len(places) == 1 and judge(places[0], box) for places, box in found]
        assert np.mean(right) >= share - MARGIN, task


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_a_twin_is_under_8_megabytes(twin: Twin) -> None:
    files = (Path(__file__).parents[2] / "models" / twin.name).iterdir()
    assert sum(path.stat().st_size for path in files) <= 8_000_000
