"""A step of many tokens can be taken in parts that divide no image that sees ahead."""

from itertools import pairwise

import numpy as np
import pytest

from export.errors import UserError
from runtimes.session.backend import Extend

IMAGE = 7


def step(ids: list[int], past: int = 0) -> Extend:
    features = np.arange(ids.count(IMAGE), dtype=np.float32)[:, None]
    return Extend.sequential(np.array(ids), past, features if len(features) else None)


@pytest.mark.parametrize("whole_images", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_the_parts_of_a_step_are_the_step(seed: int, whole_images: bool) -> None:
    draw = np.random.default_rng(seed)
    runs = [[int(draw.choice([1, IMAGE]))] * int(draw.integers(1, 9)) for _ in range(6)]
    whole = step([token for run in runs for token in [*run, 2]], past=int(draw.integers(9)))
    parts = list(whole.parts(8, IMAGE, whole_images=whole_images))
    assert max(len(part.ids) for part in parts) <= 8
    np.testing.assert_array_equal(np.concatenate([part.ids for part in parts]), whole.ids)
    np.testing.assert_array_equal(
        np.concatenate([part.positions for part in parts], axis=1), whole.positions
    )
    pasts = np.cumsum([whole.past, *(len(part.ids) for part in parts[:-1])])
    assert [part.past for part in parts] == pasts.tolist()
    rows = [part.features for part in parts if part.features is not None]
    assert [len(row) for row in rows] == [n for p in parts if (n := int((p.ids == IMAGE).sum()))]
    if whole.features is not None:
        np.testing.assert_array_equal(np.concatenate(rows), whole.features)
    ends = [(one.ids[-1], next.ids[0]) for one, next in pairwise(parts)]
    assert not (whole_images and (IMAGE, IMAGE) in ends)


def test_an_image_that_sees_ahead_must_fit_into_one_part() -> None:
    with pytest.raises(UserError, match="an image of more than 3 tokens does not fit"):
        list(step([1, IMAGE, IMAGE, IMAGE, IMAGE, 1]).parts(3, IMAGE, whole_images=True))


def test_an_image_whose_tokens_see_only_earlier_ones_is_divided() -> None:
    parts = step([1, IMAGE, IMAGE, IMAGE, IMAGE, 1]).parts(3, IMAGE, whole_images=False)
    assert [part.ids.tolist() for part in parts] == [[1, IMAGE, IMAGE], [IMAGE, IMAGE, 1]]


@pytest.mark.parametrize(
    ("past", "lengths"), [(0, [5, 8, 2]), (3, [2, 8, 5]), (5, [8, 7]), (9, [8, 7])]
)
def test_the_prefix_is_a_part_of_its_own(past: int, lengths: list[int]) -> None:
    parts = step([2] * 15, past).parts(8, IMAGE, whole_images=True, prefix=5)
    assert [len(part.ids) for part in parts] == lengths
