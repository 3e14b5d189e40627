"""transformers.js, in Node, opens artifacts of its layout and answers as the checkpoint does."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clients.conftest import Export, greedy, node
from export.artifact import Artifact
from export.checkpoint.registry import open_model
from export.model import Model
from runtimes.base import Request
from runtimes.prepare.request import preparer_of
from runtimes.proof.probes import probes

# Pictures in the size that each tower sees, so that no client has to resize them.
EDGES = {"tiny-smolvlm": 64, "tiny-gemma3": 64, "tiny-qwen2.5-vl": 112}
RECIPES = ("int8", "int4")
TWO_IMAGES = ("tiny-smolvlm", "tiny-gemma3")
MOST_TOKENS = 8
Artifacts = Mapping[tuple[str, str], Artifact]
Answers = Mapping[tuple[str, str, str], Mapping[str, Any]]


def requests(name: str) -> dict[str, Request]:
    edge = EDGES[name]
    shape, yes_or_no = probes(edge)[:2]
    asked = {
        "a picture": Request(shape.question, shape.images, max_tokens=MOST_TOKENS),
        "yes or no": Request(yes_or_no.question, yes_or_no.images, max_tokens=MOST_TOKENS),
    }
    if name in TWO_IMAGES:
        both = (*shape.images, Image.new("RGB", (edge, edge), "blue"))
        asked["two pictures"] = Request(shape.question, both, max_tokens=MOST_TOKENS)
    return asked


CASES = [(name, recipe, asked) for name in EDGES for recipe in RECIPES for asked in requests(name)]
ONE_PICTURE = [case for case in CASES if case[2] != "two pictures"]
CUT = Request("what color is the shape?", probes(128)[0].images, max_tokens=MOST_TOKENS)


@pytest.fixture(scope="session")
def artifacts(exported: Export, cutting_model: Model) -> Artifacts:
    """By model and recipe."""
    made = {
        (name, recipe): exported(open_model(name), recipe, "transformers.js")
        for name in EDGES
        for recipe in RECIPES
    }
    return made | {("cutting", "int8"): exported(cutting_model, "int8", "transformers.js")}


@pytest.fixture(scope="session")
def answers(
    artifacts: Artifacts,
    picture_file: Callable[[Image.Image], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Answers:
    """What transformers.js said, by model, recipe and request; one process for all."""
    jobs, keys = [], []
    for (name, recipe), artifact in artifacts.items():
        asked = {"cut": CUT} if name == "cutting" else requests(name)
        for called, request in asked.items():
            keys.append((name, recipe, called))
            jobs.append(
                {
                    "artifact": str(artifact.path),
                    "images": [str(picture_file(image)) for image in request.images],
                    "question": request.question,
                    "max_tokens": request.max_tokens,
                }
            )
    found = node("ask.mjs", jobs, tmp_path_factory.mktemp("jobs"))
    return dict(zip(keys, found, strict=True))


@pytest.mark.parametrize(("name", "recipe", "asked"), CASES)
def test_it_prepares_the_prompt_and_the_pixels_that_the_model_wants(
    name: str, recipe: str, asked: str, answers: Answers
) -> None:
    found = answers[name, recipe, asked]
    wanted = preparer_of(open_model(name))(requests(name)[asked])
    assert found["prompt"] == wanted.ids.tolist()
    pixels = np.concatenate([image.values.ravel() for image in wanted.images])
    assert np.abs(np.array(found["pixels"]) - pixels).max() < 1e-5


@pytest.mark.parametrize(("name", "recipe", "asked"), ONE_PICTURE)
def test_it_answers_as_the_reference_does(
    name: str, recipe: str, asked: str, answers: Answers
) -> None:
    wanted = greedy("reference", open_model(name), requests(name)[asked])
    assert answers[name, recipe, asked]["tokens"] == wanted


# Not int4: the tower rounds activations by one scale a call, transformers.js encodes both pictures
# in one call and we each by itself, and models that were trained on one picture hesitate here.
@pytest.mark.parametrize("name", TWO_IMAGES)
def test_it_answers_about_two_pictures_as_the_reference_does(name: str, answers: Answers) -> None:
    wanted = greedy("reference", open_model(name), requests(name)["two pictures"])
    assert answers[name, "int8", "two pictures"]["tokens"] == wanted


def test_it_cuts_an_image_into_the_tiles_that_the_tower_takes(
    cutting_model: Model, answers: Answers
) -> None:
    found = answers["cutting", "int8", "cut"]
    wanted = preparer_of(cutting_model)(CUT)
    assert found["prompt"] == wanted.ids.tolist()
    tiles = wanted.images[0].values
    assert len(tiles) == 5
    pixels = np.array(found["pixels"]).reshape(tiles.shape)
    assert np.abs(pixels[:4] - tiles[:4]).max() < 1e-5
    # The overview is resized, by other filters (said in the artifact's limits).
    assert np.abs(pixels[4] - tiles[4]).mean() < 0.05
    assert found["tokens"] == greedy("reference", cutting_model, CUT)
