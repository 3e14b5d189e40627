"""What training is given: labels of cells and of places."""

import numpy as np
import torch

from bench.tasks.scenes import Thing, scenes
from models.train import toys
from models.train.moondream_regions import bins_losses


def test_cells_have_the_classes_of_what_covers_them() -> None:
    things = (Thing("red circle", (0.0, 0.0, 0.25, 0.125)), Thing("7", (0.5, 0.5, 0.6, 0.75)))
    labels = toys.field_labels(things)
    assert labels[0, :2, :2].tolist() == [[1, 6], [1, 6]]
    assert labels[4:6, 4, 2].tolist() == [1 + toys.LETTERS.index("7")] * 2
    assert np.count_nonzero(labels.any(-1)) == 4


def test_a_syllable_is_labelled_by_its_three_letters() -> None:
    (scene,) = scenes("hangul", "train", 1)
    classes = {tuple(row) for row in toys.field_labels(scene.things).reshape(64, -1).tolist()}
    letters = {chr(0xAC00 + (i - 1) * 588 + (m - 1) * 28 + f - 1) for *_, i, m, f in classes if i}
    assert letters == set(scene.asked[0].answer)


def test_the_bins_loss_is_least_at_the_right_bin() -> None:
    loss = [
        float(bins_losses(10.0 * torch.eye(16)[[bin_]], torch.tensor([5 / 16])))
        for bin_ in range(16)
    ]
    assert int(np.argmin(loss)) == 5
