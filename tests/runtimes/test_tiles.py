"""A session encodes equal tiles once, and keeps those of its last requests."""

import numpy as np
import pytest
from hashing_backend import HashingBackend
from PIL import Image, ImageDraw
from tiny_models import hf_model, tiny_model
from tiny_moondream import tiny_moondream

from export.arrays import FloatArray
from export.images.pixels import Pixels
from export.model import Model
from runtimes.base import Event, Request
from runtimes.prepare.request import preparer_of
from runtimes.session import tiles
from runtimes.session.loop import GreedySession


class CountingBackend(HashingBackend):
    """Counts the tiles that it encodes."""

    tiles = 0

    def encode(self, images: tuple[Pixels, ...]) -> FloatArray:
        self.tiles += sum(image.tiles for image in images)
        return super().encode(images)


class Asked:
    """A session of a model with what its images cost."""

    def __init__(self, model: Model) -> None:
        self.backend = CountingBackend(model.vlm, model.prompt, 1024)
        self.session = GreedySession(self.backend, preparer_of(model), model.vlm.stop_token_ids)

    def image(self, *images: Image.Image, reuse: bool = True) -> tuple[int, Event]:
        """Returns how many tiles were encoded for a request, and its event of that."""
        before = self.backend.tiles
        asked = Request("what?", images, max_tokens=1, reuse=reuse, arrays=True)
        event = next(event for event in self.session.generate(asked) if event.kind == "image")
        assert event.tiles == self.backend.tiles - before
        assert event.reused == (not event.tiles)
        return event.tiles, event


def page(width: int, height: int, *marks: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGB", (width, height), "white")
    for mark in marks:
        ImageDraw.Draw(image).rectangle(mark, fill="black")
    return image


@pytest.fixture(scope="module")
def cut() -> Model:
    """A model that cuts images into tiles and appends the whole."""
    return tiny_model(hf_model("grouped heads"))


def fresh(model: Model, *images: Image.Image) -> FloatArray:
    features = Asked(model).image(*images)[1].features
    assert features is not None
    return features


def same(event: Event, wanted: FloatArray) -> bool:
    return event.features is not None and np.array_equal(event.features, wanted)


def test_equal_tiles_of_an_image_are_encoded_once(cut: Model) -> None:
    blank, marked = page(64, 64), page(64, 64, (0, 0, 9, 9))
    for reuse in (True, False):
        assert Asked(cut).image(blank, reuse=reuse)[0] == 1
        count, event = Asked(cut).image(marked, reuse=reuse)
        assert count == 3  # the marked tile, one of three white ones, and the whole
        assert event.positions == 5 * 4


def test_tiles_of_earlier_images_are_not_encoded_again(cut: Model) -> None:
    one, other = page(64, 64, (0, 0, 9, 9)), page(64, 64, (40, 40, 50, 60))
    asked = Asked(cut)
    assert asked.image(one)[0] == 3
    count, event = asked.image(other)
    assert count == 2  # its marked tile and its whole
    assert same(event, fresh(cut, other))
    count, event = asked.image(one, other)
    assert count == 0
    assert same(event, np.concatenate([fresh(cut, one), fresh(cut, other)]))
    assert asked.image(one, reuse=False)[0] == 3


def test_features_are_kept_up_to_a_number_of_bytes(
    cut: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = page(64, 64, (0, 0, 9, 9)), page(64, 64, (40, 40, 50, 60))
    of_a_tile = fresh(cut, one).nbytes // 5
    monkeypatch.setattr(tiles, "MOST_BYTES", 3 * of_a_tile)
    asked = Asked(cut)
    assert [asked.image(image)[0] for image in (one, other, one)] == [3, 2, 2]


def test_joined_crops_are_compared_as_one_image() -> None:
    model = tiny_moondream("starmie")
    one, other = page(64, 64, (0, 0, 9, 9)), page(64, 64, (40, 40, 50, 60))
    asked = Asked(model)
    first = asked.image(one)[0]
    assert asked.image(other)[0] == first > 0
    count, event = asked.image(one)
    assert count == 0
    assert same(event, fresh(model, one))
