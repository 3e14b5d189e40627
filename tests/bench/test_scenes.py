"""Generated images are reproducible, have the objects they list, and separate the splits."""

from itertools import islice
from typing import get_args

import numpy as np
import pytest

from bench.tasks.scenes import GENERATORS, Scene, Split, scenes
from bench.tasks.scenes.drawing import hangul_file

NEEDS_HANGUL = {"hangul", "ocr-korean"}


@pytest.fixture(params=GENERATORS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param in NEEDS_HANGUL and hangul_file() is None:
        pytest.skip("koreanize-matplotlib is not installed: no font with Hangul")
    return str(request.param)


def fingerprint(scene: Scene) -> tuple[object, ...]:
    return scene.image.tobytes(), scene.things, scene.asked


def test_a_scene_does_not_depend_on_the_others(name: str) -> None:
    whole = [fingerprint(scene) for scene in scenes(name, "test", 6, seed=3)]
    part = [fingerprint(scene) for scene in scenes(name, "test", 2, seed=3, first=4)]
    assert whole[4:] == part
    assert len(set(whole)) == 6


def test_splits_and_seeds_give_other_scenes(name: str) -> None:
    of = {
        (split, seed): [fingerprint(scene) for scene in scenes(name, split, 3, seed)]
        for split in get_args(Split)
        for seed in (0, 1)
    }
    assert of["train", 0] != of["train", 1]
    assert of["train", 0] != of["test", 0]


def test_ink_is_within_the_boxes_of_things_only(name: str) -> None:
    for scene in scenes(name, "train", 10):
        light = np.asarray(scene.image).astype(int).sum(axis=2)
        height, width = light.shape
        outside = np.ones(light.shape, bool)
        for x_min, y_min, x_max, y_max in (thing.box for thing in scene.things):
            assert 0 <= x_min < x_max <= 1.001
            assert 0 <= y_min < y_max <= 1.001
            rows = slice(int(y_min * height), int(np.ceil(y_max * height)))
            columns = slice(int(x_min * width), int(np.ceil(x_max * width)))
            assert light.max() - light[rows, columns].min() > 60
            outside[rows, columns] = False
        assert len(set(light[outside])) <= 1


def test_answers_count_the_things() -> None:
    answers = set()
    for scene in scenes("counting", "test", 60):
        whole, of_shape, of_colour = scene.asked
        shape = of_shape.question.split()[2].removesuffix("s")
        colour = of_colour.question.split()[2]
        names = [thing.name.split() for thing in scene.things]
        assert int(whole.answer) == len(names)
        assert int(of_shape.answer) == sum(shape == name[1] for name in names)
        assert int(of_colour.answer) == sum(colour == name[0] for name in names)
        answers.add(int(whole.answer))
    assert answers == {1, 2, 3, 4, 5, 6}


def test_cells_count_from_one_in_reading_order() -> None:
    for scene in scenes("grid", "test", 40):
        row, column = (int(word) for word in scene.asked[0].answer.split())
        x_min, y_min, *_ = scene.things[0].box
        assert (row, column) == (int(y_min * 8) + 1, int(x_min * 8) + 1)


@pytest.mark.parametrize("name", ["boxes", "points"])
def test_regions_are_of_the_thing_in_the_question(name: str) -> None:
    for scene in scenes(name, "test", 40):
        boxes = {thing.name: thing.box for thing in scene.things}
        assert len(boxes) == len(scene.asked)
        for asked in scene.asked:
            assert asked.regions == (boxes[asked.subject],)
            place = [int(word) / 100 for word in asked.answer.split()]
            x_min, y_min, x_max, y_max = asked.regions[0]
            if name == "boxes":
                assert place == pytest.approx(asked.regions[0], abs=0.0051)  # whole percents
            else:
                assert x_min < place[0] < x_max
                assert y_min < place[1] < y_max


@pytest.mark.parametrize("name", ["latin", "hangul"])
def test_words_of_the_test_split_are_never_drawn_for_training(name: str) -> None:
    if name in NEEDS_HANGUL and hangul_file() is None:
        pytest.skip("koreanize-matplotlib is not installed: no font with Hangul")
    trained, tested = (
        {scene.asked[0].answer for scene in scenes(name, split, 150)} for split in get_args(Split)
    )
    assert trained.isdisjoint(tested)
    assert min(len(trained), len(tested)) > 50


def test_handwritten_digits_are_each_tested_once() -> None:
    most = GENERATORS["handwritten"].most
    assert most is not None
    tested = [scene.image.tobytes() for scene in scenes("handwritten", "test", most)]
    assert len(set(tested)) == most
    again = next(islice(scenes("handwritten", "test", 1, first=most), 1))
    assert again.image.tobytes() == tested[0]
    drawn = {scene.image.tobytes() for scene in scenes("handwritten", "train", 200)}
    assert drawn.isdisjoint(tested)


def test_hangul_is_composed_of_whole_syllables() -> None:
    if hangul_file() is None:
        pytest.skip("koreanize-matplotlib is not installed: no font with Hangul")
    for scene in scenes("hangul", "test", 40):
        assert all("가" <= letter <= "힣" for letter in scene.asked[0].answer)
