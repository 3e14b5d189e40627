"""Resizing in one thread per channel is bit-identical to Pillow's resize."""

import numpy as np
import pytest
from PIL import Image

from export.images import resize as module
from export.images.resize import resize

# Larger and smaller in width and height: Pillow starts with the axis that is less work.
SIZES = [
    ((97, 61), (208, 155)),
    ((208, 155), (52, 52)),
    ((124, 90), (200, 30)),
    ((30, 200), (13, 260)),
    ((64, 3), (64, 90)),
]


@pytest.mark.parametrize("resample", [Image.Resampling.LANCZOS, Image.Resampling.BICUBIC])
@pytest.mark.parametrize(("given", "wanted"), SIZES)
@pytest.mark.parametrize("cpus", [1, 3])
def test_channels_resized_in_threads_equal_pillow(
    given: tuple[int, int],
    wanted: tuple[int, int],
    resample: Image.Resampling,
    cpus: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (given[1], given[0], 3), np.uint8)
    image = Image.fromarray(pixels)
    monkeypatch.setattr(module, "SMALL", 0)
    monkeypatch.setattr(module, "_cpus", lambda: cpus)
    found = resize(image, wanted, resample)
    assert found.mode == "RGB"
    assert np.array_equal(np.asarray(found), np.asarray(image.resize(wanted, resample)))
