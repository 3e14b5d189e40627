"""What training is given: labels of cells, and the course of the rate."""

import numpy as np
import pytest
import torch

from bench.tasks.scenes import Thing, scenes
from models.train import toys
from models.train.moondream_places import bins_loss
from models.train.optimizer import Optimizer
from models.train.task import Example


def test_cells_have_the_classes_of_what_covers_them_and_know_where_they_are() -> None:
    things = (Thing("red circle", (0.0, 0.0, 0.25, 0.125)), Thing("7", (0.5, 0.5, 0.6, 0.75)))
    labels = toys.field_labels(things)
    assert labels[0, :2, :2].tolist() == [[1, 6], [1, 6]]
    assert labels[4:6, 4, 2].tolist() == [1 + toys.LETTERS.index("7")] * 2
    assert np.count_nonzero(labels.any(-1)) == 4

    pixels = np.zeros((64, 64, 3), np.uint8)
    placed = toys.placed_cell_labels(Example(pixels, (), things), pixels, 8)
    assert placed.reshape(8, 8, -1)[4, 4, -2:].tolist() == [5, 5]
    assert placed.reshape(8, 8, -1)[7, 7, -2:].tolist() == [0, 0]


def test_a_syllable_is_labelled_by_its_three_letters() -> None:
    (scene,) = scenes("hangul", "train", 1)
    classes = {tuple(row) for row in toys.field_labels(scene.things).reshape(64, -1).tolist()}
    letters = {chr(0xAC00 + (i - 1) * 588 + (m - 1) * 28 + f - 1) for *_, i, m, f in classes if i}
    assert letters == set(scene.asked[0].answer)


def test_the_rate_turns_where_it_is_told_to() -> None:
    parameters = [
        ("a", torch.nn.Parameter(torch.ones(2, 2))),
        ("b", torch.nn.Parameter(torch.ones(2))),
    ]
    optimizer = Optimizer(parameters, 1000, peak=0.4, turns=((500, 700), (600, 800)))
    rate = optimizer._schedules[0].lr_lambdas[0]
    assert [rate(step) for step in (0, 49, 500, 600, 700, 800)] == pytest.approx(
        [0.4 / 50, 0.4 * 0.951, 0.2, 0.1, 0.05, 0]
    )


def test_the_bins_loss_is_least_at_the_right_bin() -> None:
    loss = [
        float(bins_loss(10.0 * torch.eye(16)[[bin_]], torch.tensor([5 / 16]))) for bin_ in range(16)
    ]
    assert int(np.argmin(loss)) == 5
    assert float(bins_loss(torch.zeros(0, 16), torch.zeros(0))) == 0
