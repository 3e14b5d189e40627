"""Strips side by side are Pillow's own resize, to the bit."""

import numpy as np
import pytest
from PIL import Image

from runtimes import resize as module
from runtimes.resize import resize


@pytest.mark.parametrize("resample", [Image.Resampling.LANCZOS, Image.Resampling.BICUBIC])
@pytest.mark.parametrize(
    ("given", "wanted"),
    [((97, 61), (208, 155)), ((208, 155), (52, 52)), ((64, 3), (64, 90)), ((40, 200), (13, 200))],
)
def test_strips_are_the_whole(
    given: tuple[int, int],
    wanted: tuple[int, int],
    resample: Image.Resampling,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (given[1], given[0], 3), np.uint8)
    image = Image.fromarray(pixels)
    monkeypatch.setattr(module, "SMALL", 0)
    for cpus in (1, 2, 5, 8):
        monkeypatch.setattr(module, "_cpus", lambda cpus=cpus: cpus)
        found = resize(image, wanted, resample)
        assert np.array_equal(np.asarray(found), np.asarray(image.resize(wanted, resample)))
