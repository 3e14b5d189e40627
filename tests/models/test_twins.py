"""The cards of the tiny twins, in part: the first test items through the float32 ONNX artifact."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny_artifact

from bench.scorers.regions import iou, within
from bench.tasks.scenes import scenes
from export.checkpoint.registry import open_model
from models.train.plan import WORDS
from models.train.rounded import Asker, questions
from runtimes.base import Request, Session
from runtimes.onnxruntime.session import open_session as open_onnxruntime

ITEMS = 200
MARGIN = 0.05  # by which 200 items may lie below the card's share: over two standard errors
JUDGES = {"point": within, "detect": lambda found, box: iou(found, box) >= 0.5}


@dataclass(frozen=True)
class Twin:
    """A bundled model, and the shares of right answers that its card gives."""

    name: str
    words: dict[str, float]
    places: dict[str, float]


def _shares(*shares: float) -> dict[str, float]:
    return dict(zip(WORDS, shares, strict=True))


TWINS = (
    Twin("tiny-gemma3", _shares(0.9993, 0.9987, 1.0, 1.0, 0.9917, 0.9600, 0.9720), {}),
    Twin(
        "tiny-moondream",
        _shares(0.9995, 0.9993, 1.0, 0.9900, 0.9972, 0.9660, 0.9820),
        {"point": 1.0, "detect": 1.0},
    ),
    Twin("tiny-qwen2.5-vl", _shares(0.9996, 0.9987, 1.0, 0.9980, 0.9861, 0.9900, 0.9840), {}),
    Twin("tiny-smolvlm", _shares(0.9991, 0.9993, 1.0, 1.0, 0.9972, 0.9860, 0.9740), {}),
)


@pytest.fixture(scope="module", params=TWINS, ids=lambda twin: twin.name)
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Twin, Asker, Session]]:
    """A twin, and its float32 ONNX artifact."""
    model = open_model(request.param.name)
    artifact = tiny_artifact(model, "onnx", "fp32", tmp_path_factory.mktemp("twin"))
    session = open_onnxruntime(artifact, threads=1)
    yield request.param, Asker(model, session), session
    session.close()


def test_the_first_test_questions_are_answered_as_well_as_the_card_says(
    opened: tuple[Twin, Asker, Session],
) -> None:
    twin, asker, _ = opened
    for kind, share in twin.words.items():
        asked = islice(questions(kind), ITEMS)
        right = [asker.words(one)[0] == one.answer for one in asked]
        assert np.mean(right) >= share - MARGIN, kind


def test_the_first_test_things_are_placed_as_well_as_the_card_says(
    opened: tuple[Twin, Asker, Session],
) -> None:
    twin, _, session = opened
    located = [
        (scene.image, one) for scene in scenes("boxes", "test", ITEMS) for one in scene.asked
    ]
    for task, share in twin.places.items():
        right = []
        for image, one in located[:ITEMS]:
            events = session.generate(Request(one.subject, (image,), task=task))
            found = [event.region for event in events if event.kind == "place"]
            right.append(len(found) == 1 and JUDGES[task](found[0], one.regions[0]))
        assert np.mean(right) >= share - MARGIN, task


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)
def test_a_twin_is_under_8_megabytes(twin: Twin) -> None:
    files = (Path(__file__).parents[2] / "models" / twin.name).iterdir()
    assert sum(path.stat().st_size for path in files) <= 8_000_000
